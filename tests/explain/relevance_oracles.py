"""Relevance propagation in slow numpy: a loop over every step, output and input.

``rules`` is (eps, bf, variant, product). Weights come as the networks' own trees with
numpy leaves. What has no input to go to is added up in a list, ``rest``.
"""

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def shares(terms, z, b, relevance, n, rules):
    """R_i of the terms (D, d) that, with b (d,), add up to z (d,); n units feed z_j."""
    eps, bf, variant, _ = rules
    made = np.zeros(len(terms))
    for j in range(len(z)):
        s = 1.0 if z[j] >= 0 else -1.0
        if variant == "repo":
            c = bf * (b[j] + eps * s)
        else:
            c = bf * b[j] + eps * s
        for i in range(len(terms)):
            made[i] += (terms[i, j] + c / n) / (z[j] + eps * s) * relevance[j]
    return made


def linear(x, w, z, b, relevance, n, rules):
    """Inputs x (D,) by weights w (D, d)."""
    terms = np.array(
        [[w[i, j] * x[i] for j in range(len(z))] for i in range(len(x))]
    ).reshape(len(x), len(z))
    return shares(terms, z, b, relevance, n, rules)


def summand(x, z, relevance, n, rules):
    """One of the vectors that z is the sum of: weights are the identity."""
    return linear(x, np.eye(len(x)), z, np.zeros(len(z)), relevance, n, rules)


def product(gate, signal, relevance, rules):
    """(R_gate, R_signal), unit by unit."""
    kind = rules[3]
    made = np.zeros((2, len(relevance)))
    for k, r in enumerate(relevance):
        pair = np.array([gate[k], signal[k]])
        if kind == "all":
            made[:, k] = 0.0, r
        elif kind == "half":
            made[:, k] = r / 2, r / 2
        else:
            pair = np.abs(pair) if kind == "abs" else pair
            made[:, k] = shares(pair[:, None], [pair.sum()], [0.0], [r], 2, rules)
    return made


def gate_slices(weights, d):
    """Input kernel, recurrent kernel and bias of each gate."""
    w, u, b = (weights[k] for k in ("input_kernel", "recurrent_kernel", "bias"))
    return [
        (w[:, k : k + d], u[:, k : k + d], b[k : k + d]) for k in range(0, len(b), d)
    ]


def rnn(weights, xs, there, seeds, rules, rest):
    d, e = seeds.shape[1], xs.shape[1]
    ((w, u, b),) = gate_slices(weights, d)
    h = {-1: np.zeros(d)}
    for t, x in enumerate(xs):
        h[t] = np.tanh(x @ w + h[t - 1] @ u + b) if there[t] else h[t - 1]
    made, r = np.zeros(xs.shape), np.zeros(d)
    for t in reversed(range(len(xs))):
        r = r + seeds[t]
        if there[t]:
            z = xs[t] @ w + h[t - 1] @ u + b
            made[t] = linear(xs[t], w, z, b, r, d + e, rules)
            r = linear(h[t - 1], u, z, b, r, d + e, rules)
    rest.append(r.sum())
    return made


def rnn_states(weights, xs, there):
    d = weights["recurrent_kernel"].shape[0]
    h, states = np.zeros(d), []
    for t, x in enumerate(xs):
        if there[t]:
            z = x @ weights["input_kernel"] + h @ weights["recurrent_kernel"]
            h = np.tanh(z + weights["bias"])
        states.append(h)
    return np.array(states)


def lstm_forward(weights, xs, there):
    d = weights["recurrent_kernel"].shape[0]
    parts = gate_slices(weights, d)
    h, c, gates = {-1: np.zeros(d)}, {-1: np.zeros(d)}, {}
    for t, x in enumerate(xs):
        h[t], c[t] = h[t - 1], c[t - 1]
        if there[t]:
            gates[t] = [x @ w + h[t - 1] @ u + b for w, u, b in parts]
            i, f, g, o = gates[t]
            c[t] = sigmoid(f) * c[t - 1] + sigmoid(i) * np.tanh(g)
            h[t] = sigmoid(o) * np.tanh(c[t])
    return h, c, gates


def lstm_states(weights, xs, there):
    h, _, _ = lstm_forward(weights, xs, there)
    return np.array([h[t] for t in range(len(xs))])


def lstm(weights, xs, there, seeds, rules, rest):
    d, e = seeds.shape[1], xs.shape[1]
    h, c, gates = lstm_forward(weights, xs, there)
    parts = gate_slices(weights, d)
    made, rh, rc = np.zeros(xs.shape), np.zeros(d), np.zeros(d)
    for t in reversed(range(len(xs))):
        rh = rh + seeds[t]
        if not there[t]:
            continue
        i, f, g, o = gates[t]
        of_gate = {}
        of_gate["o"], signal = product(sigmoid(o), np.tanh(c[t]), rh, rules)
        rc = rc + signal
        kept = summand(sigmoid(f) * c[t - 1], c[t], rc, 2 * d, rules)
        written = summand(sigmoid(i) * np.tanh(g), c[t], rc, 2 * d, rules)
        of_gate["f"], rc = product(sigmoid(f), c[t - 1], kept, rules)
        of_gate["i"], of_gate["g"] = product(sigmoid(i), np.tanh(g), written, rules)
        rh = np.zeros(d)
        for name, z, (w, u, b) in zip("ifgo", gates[t], parts, strict=True):
            made[t] += linear(xs[t], w, z, b, of_gate[name], d + e, rules)
            rh = rh + linear(h[t - 1], u, z, b, of_gate[name], d + e, rules)
    rest.append(rh.sum() + rc.sum())
    return made


def gru_forward(weights, xs, there):
    d = weights["recurrent_kernel"].shape[0]
    (wr, ur, br), (wu, uu, bu), (wn, un, bn) = gate_slices(weights, d)
    h, kept = {-1: np.zeros(d)}, {}
    for t, x in enumerate(xs):
        h[t] = h[t - 1]
        if there[t]:
            zr, zu = x @ wr + h[t - 1] @ ur + br, x @ wu + h[t - 1] @ uu + bu
            inner = h[t - 1] @ un + weights["candidate_bias"]
            a = x @ wn + bn + sigmoid(zr) * inner
            kept[t] = zr, zu, inner, a
            h[t] = (1 - sigmoid(zu)) * np.tanh(a) + sigmoid(zu) * h[t - 1]
    return h, kept


def gru_states(weights, xs, there):
    h, _ = gru_forward(weights, xs, there)
    return np.array([h[t] for t in range(len(xs))])


def gru(weights, xs, there, seeds, rules, rest):
    d, e = seeds.shape[1], xs.shape[1]
    (wr, ur, br), (wu, uu, bu), (wn, un, bn) = gate_slices(weights, d)
    extra = weights["candidate_bias"]
    h, kept = gru_forward(weights, xs, there)
    made, rh = np.zeros(xs.shape), np.zeros(d)
    for t in reversed(range(len(xs))):
        rh = rh + seeds[t]
        if not there[t]:
            continue
        zr, zu, inner, a = kept[t]
        r, u, n, before = sigmoid(zr), sigmoid(zu), np.tanh(a), h[t - 1]
        skip = summand(u * before, h[t], rh, 2 * d, rules)
        fresh = summand((1 - u) * n, h[t], rh, 2 * d, rules)
        ru, rh = product(u, before, skip, rules)
        other, ra = product(1 - u, n, fresh, rules)
        if rules[3] == "all":
            b = bn + r * extra
            made[t] = linear(xs[t], wn, a, b, ra, d + e, rules)
            scaled = np.array([[un[k, j] * r[j] for j in range(d)] for k in range(d)])
            rh = rh + linear(before, scaled, a, b, ra, d + e, rules)
            continue
        made[t] = linear(xs[t], wn, a, bn, ra, d + e, rules)
        # r * inner is d of the units that feed a.
        of_product = linear(r * inner, np.eye(d), a, bn, ra, d + e, rules)
        rr, of_inner = product(r, inner, of_product, rules)
        rh = rh + linear(before, un, inner, extra, of_inner, d, rules)
        for z, w, v, b, rz in ((zr, wr, ur, br, rr), (zu, wu, uu, bu, ru + other)):
            made[t] += linear(xs[t], w, z, b, rz, d + e, rules)
            rh = rh + linear(before, v, z, b, rz, d + e, rules)
    rest.append(rh.sum())
    return made


BACK = {"rnn": rnn, "lstm": lstm, "gru": gru}
STATES = {"rnn": rnn_states, "lstm": lstm_states, "gru": gru_states}


def perceptron(layers, x, coefficients, rules):
    """Relevance of x (D,) for sum_k coefficients_k y_k, and y; ReLU in between."""
    values, made = [x], []
    for kernel, bias in layers:
        made.append(values[-1] @ kernel + bias)
        values.append(np.maximum(made[-1], 0))
    r = made[-1] * coefficients
    for (kernel, bias), below, z in zip(
        layers[::-1], values[:-1][::-1], made[::-1], strict=True
    ):
        r = linear(below, kernel, z, bias, r, len(below), rules)
    return r, made[-1]


def head(weights, state, coefficients, rules):
    layers = [weights[name] for name in ("head", "readout") if name in weights]
    layers = [(layer["kernel"], layer["bias"]) for layer in layers]
    return perceptron(layers, state, coefficients, rules)


def steps_of_mean(alpha, values, mean, relevance, rules):
    """Relevance (L, d) of values whose mean by alpha is (d,); no weight, no part."""
    read = [step for step in range(len(values)) if alpha[step] > 0]
    made = np.zeros(values.shape)
    for step in read:
        made[step] = summand(
            alpha[step] * values[step], mean, relevance, len(read) * len(mean), rules
        )
    return made


def stack(kind, units, weights, xs, there, coefficients, rules):
    """(R (L, D), rest, y) of stacked recurrences, of all kinds but the transformer."""
    cell = {"bilstm": "lstm", "attention": "lstm"}.get(kind, kind)
    read = [xs]
    for layer in range(len(units)):
        states = STATES[cell](weights[f"layer{layer}"], read[-1], there)
        if kind == "bilstm":
            back = STATES[cell](
                weights[f"backward{layer}"], read[-1][::-1], there[::-1]
            )
            states = np.concatenate([states, back[::-1]], axis=1)
        read.append(states)
    states, d = read[-1], units[-1]
    seeds, state, rest = np.zeros(states.shape), states[-1], []
    if kind == "bilstm":
        state = np.concatenate([states[-1, :d], states[0, d:]])
    if kind == "attention":
        scores = np.array([state @ weights["attention_kernel"] @ h for h in states])
        alpha = np.where(there, np.exp(scores), 0)
        alpha = alpha / alpha.sum()
        context = sum(a * h for a, h in zip(alpha, states, strict=True))
        state = np.concatenate([state, context])
    r, y = head(weights, state, coefficients, rules)
    seeds[-1, :d] = r[:d]
    if kind == "bilstm":
        seeds[0, d:] = r[d:]
    if kind == "attention":
        seeds += steps_of_mean(alpha, states, context, r[d:], rules)
    for layer in reversed(range(len(units))):
        d = units[layer]
        below = read[layer]
        made = BACK[cell](
            weights[f"layer{layer}"], below, there, seeds[:, :d], rules, rest
        )
        if kind == "bilstm":
            made += BACK[cell](
                weights[f"backward{layer}"],
                below[::-1],
                there[::-1],
                seeds[::-1, d:],
                rules,
                rest,
            )[::-1]
        seeds = made
    return seeds, sum(rest), y


def norm(v, weights, name):
    spread = np.sqrt(v.var() + 1e-6)
    return (v - v.mean()) / spread * weights[f"{name}_scale"] + weights[f"{name}_bias"]


def norm_back(v, weights, name, relevance, rules):
    """A linear layer: centring, then a scale over the spread, which is given."""
    d = len(v)
    spread = np.sqrt(v.var() + 1e-6)
    w = (np.eye(d) - 1 / d) * (weights[f"{name}_scale"] / spread)
    bias = weights[f"{name}_bias"]
    return linear(v, w, norm(v, weights, name), bias, relevance, d, rules)


def block(weights, xs, there, heads):
    """Outputs (L, d) of an encoder layer, and what relevance needs of each step."""
    length, d = xs.shape
    width = d // heads
    q, k, v = (xs @ weights[f"{name}_kernel"] for name in ("query", "key", "value"))
    out, kept = [], []
    for step in range(length):
        mixed, alphas = np.zeros(d), []
        for head in range(heads):
            own = slice(head * width, (head + 1) * width)
            alpha = np.array(
                [
                    np.exp(q[step, own] @ k[s, own] / np.sqrt(width))
                    if s <= step and there[s]
                    else 0.0
                    for s in range(length)
                ]
            )
            alpha = alpha / alpha.sum() if alpha.sum() else alpha
            mixed[own] = alpha @ v[:, own]
            alphas.append(alpha)
        attended = mixed @ weights["mixing_kernel"]
        summed = xs[step] + attended
        inner = norm(summed, weights, "attention")
        linear_ = inner @ weights["hidden_kernel"] + weights["hidden_bias"]
        fed = np.maximum(linear_, 0) @ weights["output_kernel"] + weights["output_bias"]
        out.append(norm(inner + fed, weights, "feed"))
        kept.append((alphas, mixed, attended, summed, inner, linear_, fed))
    return np.array(out), kept


def block_back(weights, xs, kept, relevance, heads, rules):
    length, d = xs.shape
    width = d // heads
    v = xs @ weights["value_kernel"]
    made, of_v = np.zeros(xs.shape), np.zeros(xs.shape)
    nothing = np.zeros(d)
    for step in range(length):
        alphas, mixed, attended, summed, inner, linear_, fed = kept[step]
        r = norm_back(inner + fed, weights, "feed", relevance[step], rules)
        of_inner = summand(inner, inner + fed, r, 2 * d, rules)
        of_fed = summand(fed, inner + fed, r, 2 * d, rules)
        hidden = np.maximum(linear_, 0)
        r = linear(
            hidden, weights["output_kernel"], fed, weights["output_bias"], of_fed,
            len(hidden), rules,
        )  # fmt: skip
        of_inner += linear(
            inner,
            weights["hidden_kernel"],
            linear_,
            weights["hidden_bias"],
            r,
            d,
            rules,
        )
        r = norm_back(summed, weights, "attention", of_inner, rules)
        made[step] += summand(xs[step], summed, r, 2 * d, rules)
        r = summand(attended, summed, r, 2 * d, rules)
        r = linear(mixed, weights["mixing_kernel"], attended, nothing, r, d, rules)
        for head in range(heads):
            own = slice(head * width, (head + 1) * width)
            of_v[:, own] += steps_of_mean(
                alphas[head], v[:, own], mixed[own], r[own], rules
            )
    for step in range(length):
        made[step] += linear(
            xs[step], weights["value_kernel"], v[step], nothing, of_v[step], d, rules
        )
    return made


def transformer(units, weights, xs, there, coefficients, heads, rules):
    """(R (L, D), rest, y)."""
    d = units[0]
    age = np.arange(len(xs))[::-1, None]
    angle = age / 10_000 ** (2 * (np.arange(d) // 2) / d)
    code = np.where(np.arange(d) % 2 == 0, np.sin(angle), np.cos(angle))
    embedding = weights["embedding"]
    read, kept = [xs @ embedding["kernel"] + embedding["bias"] + code], []
    for number in range(len(units)):
        out, own = block(weights[f"block{number}"], read[-1], there, heads)
        read.append(out)
        kept.append(own)
    r = np.zeros(read[-1].shape)
    r[-1], y = head(weights, read[-1][-1], coefficients, rules)
    for number in reversed(range(len(units))):
        weight = weights[f"block{number}"]
        r = block_back(weight, read[number], kept[number], r, heads, rules)
    made, rest, n = np.zeros(xs.shape), 0.0, xs.shape[1] + d
    for step, x in enumerate(xs):
        z, b = read[0][step], embedding["bias"]
        own = linear(x, embedding["kernel"], z, b, r[step], n, rules)
        rest += linear(code[step], np.eye(d), z, b, r[step], n, rules).sum()
        if there[step]:
            made[step] = own
        else:
            rest += own.sum()
    return made, rest, y
