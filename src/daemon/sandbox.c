/* The filter of system calls; see sandbox.h. Loop thread. */
#include "daemon/sandbox.h"

#ifdef HAVE_SECCOMP

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

/* A call that is allowed if the daemon has one of these needs (0: always) and all comparisons hold. */
struct rule {
	unsigned needs;
	int call;
	unsigned n;
	struct scmp_arg_cmp args[2];
};

/* Arguments of type int: the upper half of the register means nothing. */
#define BITS(arg, mask, value) {arg, SCMP_CMP_MASKED_EQ, (mask), (value)}
#define IS(arg, value) BITS(arg, 0xffffffff, value)
#define SET_ID_BITS 07000
#define THREAD (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD)
#define NEW_NAMESPACES \
	(CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET)

/* Those whatever their arguments are: they reach nothing beyond what is open, and the names of files. */
static const int always[] = {
	/* descriptors */
	SCMP_SYS(close), SCMP_SYS(dup), SCMP_SYS(dup2), SCMP_SYS(dup3), SCMP_SYS(epoll_ctl), SCMP_SYS(epoll_pwait),
	SCMP_SYS(epoll_wait), SCMP_SYS(eventfd2), SCMP_SYS(flock), SCMP_SYS(lseek), SCMP_SYS(poll), SCMP_SYS(ppoll),
	SCMP_SYS(pread64), SCMP_SYS(pwrite64), SCMP_SYS(read), SCMP_SYS(readv), SCMP_SYS(write), SCMP_SYS(writev),
	/* files */
	SCMP_SYS(access), SCMP_SYS(faccessat), SCMP_SYS(faccessat2), SCMP_SYS(fadvise64), SCMP_SYS(fdatasync),
	SCMP_SYS(fstat), SCMP_SYS(fstatfs), SCMP_SYS(fsync), SCMP_SYS(ftruncate), SCMP_SYS(getcwd),
	    SCMP_SYS(getdents64),
	SCMP_SYS(inotify_add_watch), SCMP_SYS(inotify_rm_watch), SCMP_SYS(lstat), SCMP_SYS(newfstatat),
	SCMP_SYS(readlink), SCMP_SYS(readlinkat), SCMP_SYS(stat), SCMP_SYS(statfs), SCMP_SYS(statx),
	/* connections */
	SCMP_SYS(getpeername), SCMP_SYS(getsockname), SCMP_SYS(getsockopt), SCMP_SYS(recvfrom), SCMP_SYS(recvmsg),
	SCMP_SYS(sendmsg), SCMP_SYS(sendto), SCMP_SYS(setsockopt), SCMP_SYS(shutdown),
	/* memory, threads, signals */
	SCMP_SYS(brk), SCMP_SYS(futex), SCMP_SYS(madvise), SCMP_SYS(mremap), SCMP_SYS(munmap),
	    SCMP_SYS(restart_syscall),
	SCMP_SYS(rseq), SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn),
	SCMP_SYS(sched_getaffinity), SCMP_SYS(sched_yield), SCMP_SYS(set_robust_list), SCMP_SYS(sigaltstack),
	SCMP_SYS(exit), SCMP_SYS(exit_group),
	/* time, and who and where we are */
	SCMP_SYS(clock_getres), SCMP_SYS(clock_gettime), SCMP_SYS(clock_nanosleep), SCMP_SYS(getegid),
	    SCMP_SYS(geteuid),
	SCMP_SYS(getgid), SCMP_SYS(getpid), SCMP_SYS(getrandom), SCMP_SYS(getrusage), SCMP_SYS(gettid),
	SCMP_SYS(gettimeofday), SCMP_SYS(getuid), SCMP_SYS(nanosleep), SCMP_SYS(sysinfo), SCMP_SYS(time),
	    SCMP_SYS(uname),
};

static const struct rule rules[] = {
	/* Threads, but no processes. The flags of clone3 cannot be seen: see add_rules. */
	{0, SCMP_SYS(clone), 1, {BITS(0, THREAD | NEW_NAMESPACES, THREAD)}},
	/* Memory never becomes code. */
	{0, SCMP_SYS(mmap), 1, {BITS(2, PROT_EXEC, 0)}},
	{0, SCMP_SYS(mprotect), 1, {BITS(2, PROT_EXEC, 0)}},
	/* Limits can be asked for, of this process. */
	{0, SCMP_SYS(prlimit64), 2, {IS(0, 0), {2, SCMP_CMP_EQ, 0, 0}}},
	/* Not F_SETOWN, by which the kernel sends signals for us. */
	{0, SCMP_SYS(fcntl), 1, {IS(1, F_DUPFD_CLOEXEC)}},
	{0, SCMP_SYS(fcntl), 1, {IS(1, F_GETFD)}},
	{0, SCMP_SYS(fcntl), 1, {IS(1, F_GETFL)}},
	{0, SCMP_SYS(fcntl), 1, {IS(1, F_SETFD)}},
	{0, SCMP_SYS(fcntl), 1, {IS(1, F_SETFL)}},
	/* Not TIOCSTI, which types into the terminal. */
	{0, SCMP_SYS(ioctl), 1, {IS(1, FIONREAD)}},
	{0, SCMP_SYS(ioctl), 1, {IS(1, TCGETS)}},
	{0, SCMP_SYS(ioctl), 1, {IS(1, TIOCGWINSZ)}},
	{SANDBOX_GPU, SCMP_SYS(ioctl), 1, {{1, SCMP_CMP_LT, 'T' << 8, 0}}},
	{SANDBOX_GPU, SCMP_SYS(ioctl), 1, {{1, SCMP_CMP_GT, 'T' << 8 | 0xff, 0}}},
	/* Files are read by any; written and made, but not with the set-user-ID bit, only where that is the task. */
	{0, SCMP_SYS(openat), 1, {BITS(2, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY)}},
	{SANDBOX_WRITES | SANDBOX_GPU, SCMP_SYS(openat), 1, {BITS(2, O_CREAT | O_TRUNC, 0)}},
	{SANDBOX_WRITES, SCMP_SYS(openat), 1, {BITS(3, SET_ID_BITS, 0)}},
	{SANDBOX_WRITES, SCMP_SYS(rename), 0, {{0}}},
	{SANDBOX_WRITES, SCMP_SYS(renameat), 0, {{0}}},
	{SANDBOX_WRITES | SANDBOX_ACCEPTS, SCMP_SYS(unlink), 0, {{0}}},
	{SANDBOX_WRITES | SANDBOX_ACCEPTS, SCMP_SYS(unlinkat), 0, {{0}}},
	{SANDBOX_ACCEPTS, SCMP_SYS(accept), 0, {{0}}},
	{SANDBOX_ACCEPTS, SCMP_SYS(accept4), 0, {{0}}},
	/* No other sockets, and no connect: the address stands in each message, see sd_notify(3). */
	{SANDBOX_NOTIFIES, SCMP_SYS(socket), 2, {IS(0, AF_UNIX), BITS(1, 0xf, SOCK_DGRAM)}},
};

/* Returns 0 or a negative number of an error, as libseccomp's functions. */
static int
add_rules(scmp_filter_ctx filter, unsigned needs)
{
	const struct scmp_arg_cmp ourselves = IS(0, (scmp_datum_t)getpid());
	int rc = 0;

	for (size_t i = 0; i < sizeof always / sizeof *always && rc == 0; i++)
		rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, always[i], 0);
	for (size_t i = 0; i < sizeof rules / sizeof *rules && rc == 0; i++)
		if (rules[i].needs == 0 || (rules[i].needs & needs))
			rc = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, rules[i].call, rules[i].n, rules[i].args);
	/* abort(3) and raise(3) */
	if (rc == 0)
		rc = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1, &ourselves);
	/* As on a kernel that does not have it, so that pthread_create goes on to clone. */
	if (rc == 0)
		rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	return rc;
}

static int
set_attributes(scmp_filter_ctx filter)
{
	/*
	 * The last but one: older kernels slow down every process with a filter against attacks by code that it
	 * runs for others (Speculative Store Bypass). There is no such code here.
	 */
	const struct {
		enum scmp_filter_attr attribute;
		uint32_t value;
	} rows[] = {
		{SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(EPERM)},
		{SCMP_FLTATR_CTL_NNP, 1},
		{SCMP_FLTATR_CTL_TSYNC, 1},
		{SCMP_FLTATR_CTL_SSB, 1},
		{SCMP_FLTATR_CTL_OPTIMIZE, 2},
	};
	int rc = 0;

	for (size_t i = 0; i < sizeof rows / sizeof *rows && rc == 0; i++)
		rc = seccomp_attr_set(filter, rows[i].attribute, rows[i].value);
	return rc;
}

int
sandbox_check(struct err *e)
{
	(void)e;
	return 0;
}

int
sandbox_enter(unsigned needs, struct err *e)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int rc = filter == NULL ? -ENOMEM : set_attributes(filter);

	if (rc == 0)
		rc = add_rules(filter, needs);
	if (rc == 0)
		rc = seccomp_load(filter);
	if (filter != NULL)
		seccomp_release(filter);
	if (rc != 0)
		return err_set(e, EX_OSERR, "cannot enter the sandbox: %s; --sandbox=no starts without it",
		    strerror(-rc));
	return 0;
}

#else

int
sandbox_check(struct err *e)
{
	return err_set(e, EX_USAGE, "--sandbox cannot be used: this sinkd was built without libseccomp");
}

int
sandbox_enter(unsigned needs, struct err *e)
{
	(void)needs;
	return sandbox_check(e);
}

#endif
