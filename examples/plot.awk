# Perplexity along a stream as SVG, from the CSV files of sinkeval ppl:
#	awk -f plot.awk NAME=FILE ... >plot.svg
# The vertical axis is logarithmic.

function log10(x) { return log(x) / log(10) }
function across(token) { return left + token / most * (right - left) }
function down(ppl) { return bottom - (log10(ppl) - lowest) / (highest - lowest) * (bottom - top) }

BEGIN {
	split("#0072b2 #d55e00 #009e73 #cc79a7 #e69f00 #56b4e9", colours, " ")
	left = 60; right = 640; top = 20; bottom = 360
	lowest = 99; highest = -99; most = 1
	for (i = 1; i < ARGC; i++) {
		at = index(ARGV[i], "=")
		names[++n] = substr(ARGV[i], 1, at - 1)
		file = substr(ARGV[i], at + 1)
		while ((getline line <file) > 0) {
			split(line, field, ",")
			if (field[1] !~ /^[0-9]+$/)
				continue
			count[n]++
			token[n, count[n]] = field[1]
			ppl[n, count[n]] = field[4]
			if (field[1] > most)
				most = field[1]
			if (log10(field[4]) < lowest)
				lowest = log10(field[4])
			if (log10(field[4]) > highest)
				highest = log10(field[4])
		}
		close(file)
	}
	lowest -= 0.05
	highest += 0.05
	print "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 800 410\" font-family=\"sans-serif\" font-size=\"13\">"
	print "<rect width=\"800\" height=\"410\" fill=\"white\"/>"
	for (e = -1; e < 6; e++)
		for (m = 1; m < 10; m++) {
			value = m * 10 ^ e
			if (log10(value) < lowest || log10(value) > highest || m != 1 && m != 2 && m != 5)
				continue
			printf "<path d=\"M%d %.1fH%d\" stroke=\"#ddd\"/>", left, down(value), right
			printf "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%g</text>\n", left - 6, down(value) + 4, value
		}
	step = 10 ^ int(log10(most))
	if (most / step < 4)
		step /= 4
	for (value = 0; value <= most; value += step)
		printf "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%d</text>\n", across(value), bottom + 18, value
	printf "<path d=\"M%d %dV%dH%d\" fill=\"none\" stroke=\"black\"/>\n", left, top, bottom, right
	printf "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">tokens</text>\n", (left + right) / 2, bottom + 40
	printf "<text x=\"16\" y=\"%d\" text-anchor=\"middle\" transform=\"rotate(-90 16 %d)\">perplexity</text>\n",
	    (top + bottom) / 2, (top + bottom) / 2
	for (i = 1; i <= n; i++) {
		printf "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"2\" points=\"", colours[i]
		for (j = 1; j <= count[i]; j++)
			printf "%.1f,%.1f ", across(token[i, j]), down(ppl[i, j])
		print "\"/>"
		printf "<text x=\"%d\" y=\"%d\" fill=\"%s\">%s</text>\n", right + 14, top + 20 * i, colours[i], names[i]
	}
	print "</svg>"
}
