#!/usr/bin/env python3
"""Compute reference logits in float64, one token at a time, and make tiny models with random weights.

This program shares no code with the engine. It needs numpy and gguf, see requirements.txt. It keeps keys as they were
before the rotation, and rotates all of them again for every query: slow, and close to the definition in README.md.
"""
import argparse
import json
import math
import pathlib
import sys

import gguf
import numpy as np

ARCHITECTURES = {
    # name: norm, activation, gated feed-forward, rotary pairs
    "falcon": ("layer", "gelu", False, "halves"),
    "gemma3": ("rms", "gelu_tanh", True, "halves"),
    "gptneox": ("layer", "gelu", False, "halves"),
    "llama": ("rms", "silu", True, "neighbours"),
    "mpt": ("layer", "gelu", False, None),
    "phi3": ("rms", "silu", True, "halves"),
    "qwen2": ("rms", "silu", True, "halves"),
    "qwen3": ("rms", "silu", True, "halves"),
    "stablelm": ("layer", "silu", True, "halves"),
}
TOLERANCE = 1e-3  # the largest difference between two logits
LOCAL_PATTERN = 6  # gemma3: every sixth layer is global

erf = np.vectorize(math.erf)
ACTIVATIONS = {
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu": lambda x: x * (1 + erf(x / math.sqrt(2))) / 2,
    "gelu_tanh": lambda x: x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2,
}


class Model:
    """A GGUF file: its settings, and its weights as float64, [rows, columns]."""

    def __init__(self, path):
        reader = gguf.GGUFReader(path)
        self.fields = {key: field.contents() for key, field in reader.fields.items()}
        self.tensors = {t.name: gguf.dequantize(t.data, t.tensor_type).astype(np.float64) for t in reader.tensors}
        self.arch = self.fields["general.architecture"]
        self.norm_kind, self.activation, self.gated, self.pairs = ARCHITECTURES[self.arch]
        self.embedding = self.tensors["token_embd.weight"]
        self.width = self.embedding.shape[1]
        self.layers = self.get("block_count")
        self.heads = self.get("attention.head_count")
        self.heads_kv = self.get("attention.head_count_kv", self.heads)
        self.key_length = self.get("attention.key_length", self.width // self.heads)
        self.value_length = self.get("attention.value_length", self.width // self.heads)
        self.rotated = self.get("rope.dimension_count", self.key_length)
        self.parallel = self.arch == "falcon" or self.get("use_parallel_residual", self.arch == "gptneox")
        self.clamp = self.get("attention.clamp_kqv", 0)
        self.slopes = alibi_slopes(self.heads, self.get("attention.max_alibi_bias", 0))

    def get(self, key, default=None):
        return self.fields.get(f"{self.arch}.{key}", default)

    def is_local(self, layer):
        return self.arch == "gemma3" and (layer + 1) % LOCAL_PATTERN != 0

    def linear(self, name, x):
        y = self.tensors[f"{name}.weight"] @ x
        return y + self.tensors.get(f"{name}.bias", 0)

    def norm(self, name, x):
        if self.norm_kind == "rms":
            y = x / np.sqrt(np.mean(x * x, -1, keepdims=True) + self.get("attention.layer_norm_rms_epsilon"))
        else:
            centred = x - x.mean()
            y = centred / np.sqrt(np.mean(centred**2) + self.get("attention.layer_norm_epsilon"))
        return y * self.tensors[f"{name}.weight"] + self.tensors.get(f"{name}.bias", 0)

    def rotate(self, x, positions, local):
        """x [n, heads, key_length], turned by the angles of positions [n]."""
        if self.pairs is None:
            return x
        base = self.get("rope.freq_base_swa" if local else "rope.freq_base", 10000.0)
        half = self.rotated // 2
        frequencies = base ** (-np.arange(half) * 2 / self.rotated) / self.tensors.get("rope_freqs.weight", 1)
        angles = np.asarray(positions)[:, None, None] * frequencies
        if self.pairs == "neighbours":
            first, second = slice(0, self.rotated, 2), slice(1, self.rotated, 2)
        else:
            first, second = slice(0, half), slice(half, self.rotated)
        out = x.copy()
        out[..., first] = x[..., first] * np.cos(angles) - x[..., second] * np.sin(angles)
        out[..., second] = x[..., second] * np.cos(angles) + x[..., first] * np.sin(angles)
        return out

    def project(self, layer, x):
        """The query, key and value heads of one token, before the rotation."""
        blk = f"blk.{layer}"
        sizes = self.heads * self.key_length, self.heads_kv * self.key_length, self.heads_kv * self.value_length
        if f"{blk}.attn_qkv.weight" in self.tensors:
            fused = self.linear(f"{blk}.attn_qkv", x)
        else:
            fused = np.concatenate([self.linear(f"{blk}.attn_{part}", x) for part in "qkv"])
        if self.clamp:
            fused = fused.clip(-self.clamp, self.clamp)
        q, k, v = np.split(fused, np.cumsum(sizes)[:2])
        q, k = q.reshape(self.heads, -1), k.reshape(self.heads_kv, -1)
        if f"{blk}.attn_q_norm.weight" in self.tensors:
            q, k = self.norm(f"{blk}.attn_q_norm", q), self.norm(f"{blk}.attn_k_norm", k)
        return q, k, v.reshape(self.heads_kv, -1)

    def attend(self, layer, x, cache, seen):
        """The attention of the newest token. cache holds a key and a value for each token, seen the tokens to look at."""
        q, k, v = self.project(layer, x)
        cache.append((k, v))
        local = self.is_local(layer)
        positions = np.arange(len(seen))
        distances = len(seen) - 1 - positions
        keys = self.rotate(np.stack([cache[i][0] for i in seen]), positions, local)
        values = np.stack([cache[i][1] for i in seen])
        q = self.rotate(q[None], positions[-1:], local)[0]
        group = self.heads // self.heads_kv
        scores = np.einsum("hd,nhd->hn", q, keys.repeat(group, 1)) / math.sqrt(self.key_length)
        scores -= self.slopes[:, None] * distances
        if local:
            scores[:, distances >= self.get("attention.sliding_window")] = -np.inf
        weights = np.exp(scores - scores.max(1, keepdims=True))
        weights /= weights.sum(1, keepdims=True)
        out = np.einsum("hn,nhd->hd", weights, values.repeat(group, 1))
        return self.linear(f"blk.{layer}.attn_output", out.ravel())

    def feed_forward(self, layer, x):
        blk = f"blk.{layer}"
        act = ACTIVATIONS[self.activation]
        up = self.linear(f"{blk}.ffn_up", x)
        if not self.gated:
            return self.linear(f"{blk}.ffn_down", act(up))
        if f"{blk}.ffn_gate.weight" in self.tensors:
            gate = self.linear(f"{blk}.ffn_gate", x)
        else:
            gate, up = np.split(up, 2)
        return self.linear(f"{blk}.ffn_down", act(gate) * up)

    def block(self, layer, x, cache, seen):
        blk = f"blk.{layer}"
        second = f"{blk}.attn_norm_2.weight" in self.tensors
        attention = self.attend(layer, self.norm(f"{blk}.attn_norm_2" if second else f"{blk}.attn_norm", x), cache, seen)
        if f"{blk}.post_attention_norm.weight" in self.tensors:
            attention = self.norm(f"{blk}.post_attention_norm", attention)
        read = x if self.parallel else x + attention
        norm = "ffn_norm" if f"{blk}.ffn_norm.weight" in self.tensors else "attn_norm"
        forward = self.feed_forward(layer, self.norm(f"{blk}.{norm}", read))
        if f"{blk}.post_ffw_norm.weight" in self.tensors:
            forward = self.norm(f"{blk}.post_ffw_norm", forward)
        return x + attention + forward

    def step(self, token, caches, seen):
        """The logits after one more token."""
        x = self.embedding[token] * (math.sqrt(self.width) if self.arch == "gemma3" else 1)
        for layer in range(self.layers):
            x = self.block(layer, x, caches[layer], seen)
        x = self.norm("output_norm", x)
        return self.tensors.get("output.weight", self.embedding) @ x

    def run(self, tokens, sinks, window):
        """The logits after each token, [tokens, vocabulary]; without a window all tokens are seen."""
        caches = [[] for _ in range(self.layers)]
        return np.array([self.step(token, caches, seen_tokens(t, sinks, window)) for t, token in enumerate(tokens)])


def seen_tokens(t, sinks, window):
    return [i for i in range(t + 1) if not window or i < sinks or i > t - window]


def alibi_slopes(heads, bias):
    n = 2 ** math.floor(math.log2(heads))
    powers = [bias * (h + 1) / n if h < n else bias / 2 * (2 * (h - n) + 1) / n for h in range(heads)]
    return np.array([2.0**-p if bias else 0.0 for p in powers])


def compute(model, case, tokens):
    sinks, window = case["sinks"], case["window"]
    if case["policy"] != "recompute":
        return model.run(tokens, sinks, window)
    return np.array([model.run(tokens[max(0, t - window + 1): t + 1], 0, 0)[-1] for t in range(len(tokens))])


def check(folder):
    """Compute the logits of a folder again. How many files hold others?"""
    wrong = 0
    for case in json.loads((folder / "meta.json").read_text())["cases"]:
        tokens = json.loads((folder / case["tokens"]).read_text())
        want = np.fromfile(folder / case["logits"], "<f4").reshape(len(tokens), -1)
        got = compute(Model(folder / case["model"]), case, tokens)
        difference = np.abs(got - want).max()
        same = bool(difference <= TOLERANCE)
        wrong += not same
        print(f"| {folder.name} | {case['logits']} | {difference:.1e} | {'same' if same else 'DIFFERENT'} |", flush=True)
    return wrong


# What --make knows. Sizes that are not here: see shape_of.
MODELS = {
    "falcon-gqa": {"arch": "falcon", "ff": 256, "fused": True, "two_norms": True, "tied": True},
    "falcon-mq": {"arch": "falcon", "ff": 256, "heads_kv": 1, "fused": True},
    "gemma3": {"arch": "gemma3", "layers": 6, "ff": 32, "key_length": 16, "qk_norm": True, "post_norm": True,
               "tied": True, "keys": {"attention.sliding_window": 12, "rope.freq_base": 1e6,
                                      "rope.freq_base_swa": 1e4}},
    "gptneox": {"arch": "gptneox", "ff": 128, "heads_kv": 4, "fused": True, "biases": "all",
                "keys": {"rope.dimension_count": 4, "use_parallel_residual": True}},
    "llama": {"arch": "llama", "keys": {"rope.dimension_count": 16}},
    "mistral": {"arch": "llama", "heads_kv": 1, "key_length": 32, "keys": {"rope.dimension_count": 32}},
    "mpt": {"arch": "mpt", "ff": 256, "heads_kv": 4, "fused": True, "norm_biases": False, "tied": True,
            "keys": {"attention.clamp_kqv": 3.0, "attention.max_alibi_bias": 16.0}},
    "phi3": {"arch": "phi3", "ff": 32, "fused": True, "keys": {"rope.dimension_count": 16}},
    "qwen2": {"arch": "qwen2", "biases": "qkv", "tied": True, "keys": {"rope.freq_base": 1e6}},
    "qwen3": {"arch": "qwen3", "ff": 32, "key_length": 32, "qk_norm": True, "tied": True},
    "stablelm": {"arch": "stablelm", "ff": 32, "biases": "qkv",
                 "keys": {"rope.dimension_count": 4, "use_parallel_residual": False}},
}
POLICIES = [("dense", 0, 0), ("sink", 4, 20), ("sink", 1, 15), ("window", 0, 24), ("recompute", 0, 24)]
VOCABULARY = 264


def shape_of(spec):
    return {"layers": 2, "width": 64, "heads": 4, "heads_kv": 2, "ff": 96, "key_length": 16, "biases": "",
            "norm_biases": True, "fused": False, "keys": {}} | spec


def matrices_of(s):
    """The shape [rows, columns] of each matrix of one layer."""
    gated = ARCHITECTURES[s["arch"]][2]
    q, kv = s["heads"] * s["key_length"], s["heads_kv"] * s["key_length"]
    parts = {"attn_qkv": q + 2 * kv} if s["fused"] else {"attn_q": q, "attn_k": kv, "attn_v": kv}
    if gated and s["fused"]:
        parts["ffn_up"] = 2 * s["ff"]
    else:
        parts |= {"ffn_up": s["ff"]} | ({"ffn_gate": s["ff"]} if gated else {})
    return {name: (rows, s["width"]) for name, rows in parts.items()} | {
        "attn_output": (s["width"], q), "ffn_down": (s["width"], s["ff"])}


def norms_of(s):
    """The length of each norm of one layer."""
    names = ["attn_norm"]
    names += [] if s["arch"] == "falcon" else ["ffn_norm"]
    names += ["attn_norm_2"] if s.get("two_norms") else []
    names += ["post_attention_norm", "post_ffw_norm"] if s.get("post_norm") else []
    return dict.fromkeys(names, s["width"]) | (
        dict.fromkeys(["attn_q_norm", "attn_k_norm"], s["key_length"]) if s.get("qk_norm") else {})


def random_tensors(s, random):
    """Names and float32 values: logits spread, attention is uneven, and no norm or bias is near 1 or 0 everywhere."""
    out = {}

    def norm(name, n):
        out[f"{name}.weight"] = 1 + 0.4 * random.standard_normal(n)
        if ARCHITECTURES[s["arch"]][0] == "layer" and s["norm_biases"]:
            out[f"{name}.bias"] = 0.3 * random.standard_normal(n)

    out["token_embd.weight"] = random.standard_normal((VOCABULARY, s["width"])) * 3 / math.sqrt(s["width"])
    if not s.get("tied"):
        out["output.weight"] = random.standard_normal((VOCABULARY, s["width"])) * 3 / math.sqrt(s["width"])
    norm("output_norm", s["width"])
    for layer in range(s["layers"]):
        for name, n in norms_of(s).items():
            norm(f"blk.{layer}.{name}", n)
        for name, shape in matrices_of(s).items():
            out[f"blk.{layer}.{name}.weight"] = random.standard_normal(shape) * 1.5 / math.sqrt(shape[1])
            if s["biases"] == "all" or s["biases"] == "qkv" and name in ("attn_q", "attn_k", "attn_v"):
                out[f"blk.{layer}.{name}.bias"] = 0.3 * random.standard_normal(shape[0])
    return {name: value.astype(np.float32) for name, value in out.items()}


def add_settings(writer, s):
    norm = "layer_norm_rms_epsilon" if ARCHITECTURES[s["arch"]][0] == "rms" else "layer_norm_epsilon"
    settings = {"block_count": s["layers"], "context_length": 2048, "embedding_length": s["width"],
                "feed_forward_length": s["ff"], "attention.head_count": s["heads"],
                "attention.head_count_kv": s["heads_kv"], "attention.key_length": s["key_length"],
                "attention.value_length": s["key_length"], f"attention.{norm}": 1e-5} | s["keys"]
    for key, value in settings.items():
        add = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32}[type(value)]
        add(f"{s['arch']}.{key}", value)


def add_tokenizer(writer):
    """A token for every byte, and a few more."""
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)] + ["a", "b", "c", "ab", "abc"]
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * 259 + [-1.0 - i for i in range(5)])
    writer.add_token_types([2, 3, 3] + [6] * 256 + [1] * 5)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(True)


def write_model(path, name, s, random):
    writer = gguf.GGUFWriter(path, s["arch"])
    writer.add_name(f"golden {name}")
    add_settings(writer, s)
    add_tokenizer(writer)
    for tensor, value in random_tensors(s, random).items():
        writer.add_tensor(tensor, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def make(name, folder, seed):
    """Write a folder. Fails if an error of one token in a policy would hardly show in the model's logits."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.Generator(np.random.PCG64(seed))
    write_model(folder / "model.gguf", name, shape_of(MODELS[name]), random)
    tokens = random.integers(3, VOCABULARY, 96).tolist()
    (folder / "tokens.json").write_text(json.dumps(tokens) + "\n")
    model = Model(folder / "model.gguf")
    cases = []
    for policy, sinks, window in POLICIES:
        case = {"policy": policy, "sinks": sinks, "window": window, "model": "model.gguf", "tokens": "tokens.json",
                "n_tokens": len(tokens), "tol": TOLERANCE}
        logits = compute(model, case, tokens)
        if window and np.sqrt(np.mean((compute(model, case | {"window": window + 1}, tokens) - logits) ** 2)) < 0.1:
            sys.exit(f"{name}: a window that is too long by one hardly shows with this seed")
        sizes = {"dense": [], "sink": [sinks, window]}.get(policy, [window])
        case["logits"] = "_".join(map(str, ["logits", policy] + sizes)) + ".f32"
        logits.astype("<f4").tofile(folder / case["logits"])
        cases.append(case)
    meta = {"name": name, "arch": model.arch, "n_vocab": VOCABULARY, "weights": ["F32"], "seed": seed, "cases": cases}
    (folder / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--check", action="store_true", help="compute the logits of the folders again and compare")
    what.add_argument("--make", choices=MODELS, help="write a model with random weights, and its logits")
    parser.add_argument("--seed", type=int, default=1, help="of the random weights (default 1)")
    parser.add_argument("folder", type=pathlib.Path, nargs="*", help="with --check: default all that are here")
    args = parser.parse_args()
    if args.make:
        if len(args.folder) != 1:
            parser.error("--make writes one folder")
        make(args.make, args.folder[0], args.seed)
        return
    here = sorted(meta.parent for meta in pathlib.Path(__file__).parent.glob("*/meta.json") if meta.parent.name != "dequant")
    sys.exit(1 if sum(check(folder) for folder in args.folder or here) else 0)


if __name__ == "__main__":
    main()
