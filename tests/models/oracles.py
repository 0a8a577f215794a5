"""The networks' equations in slow numpy: one column, one month, one row at a time.

Weights come as the networks' own trees with numpy leaves; states are tuples (h,) or
(h, c). "squash" is the activation of the hidden state.
"""

import numpy as np
from flax.traverse_util import flatten_dict


def identity(x):
    return x


ACTIVATIONS = {"tanh": np.tanh, "identity": identity}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def cell(kind, x, state, weights, squash=np.tanh):
    """The state after one step, (h,) or (h, c).

    rnn   h' = squash(W x + U h + b)
    gru   r, z = sigmoid; n = squash(W x + b + r (U h + b')); h' = (1 - z) n + z h
    lstm  i, f, o = sigmoid, g = tanh; c' = f c + i g; h' = o squash(c')
    """
    h, d = state[0], len(state[0])
    w = x @ weights["input_kernel"] + weights["bias"]
    u = h @ weights["recurrent_kernel"]
    if kind == "rnn":
        return (squash(w + u),)
    if kind == "gru":
        r, z = sigmoid((w + u)[:d]), sigmoid((w + u)[d : 2 * d])
        n = squash(w[2 * d :] + r * (u[2 * d :] + weights["candidate_bias"]))
        return ((1 - z) * n + z * h,)
    i, f, g, o = (w + u).reshape(4, d)
    c = sigmoid(f) * state[1] + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * squash(c), c


def zero_state(kind, weights):
    zeros = np.zeros(weights["recurrent_kernel"].shape[0])
    return (zeros, zeros) if kind == "lstm" else (zeros,)


def encoder(kind, inputs, available, weights, squash=np.tanh):
    """States h_1 .. h_L and the last state; a missing step changes nothing."""
    state, states = zero_state(kind, weights), []
    for x, there in zip(inputs, available, strict=True):
        if there:
            state = cell(kind, x, state, weights, squash)
        states.append(state[0])
    return states, state


def context(query, states, available, kernel, penalty):
    """C = sum alpha_l h_l, alpha = softmax over steps available of q'W h_l - penalty_l.

    Scores here are small enough for exponentials without a maximum taken off.
    """
    shares = [
        np.exp(query @ kernel @ h - cost) if there else 0.0
        for h, there, cost in zip(states, available, penalty, strict=True)
    ]
    if not sum(shares):
        return np.zeros_like(query)
    return sum(s * h for s, h in zip(shares, states, strict=True)) / sum(shares)


def dense(weights, x):
    return x @ weights["kernel"] + weights["bias"]


def sequence_factors(kind, weights, inputs, available, squash=np.tanh, damping=1.0):
    """One month: decoding starts at the encoder's end, C_{i-1} is by h'_{i-1}."""
    inputs = np.asarray(inputs)
    states, state = encoder(
        kind, inputs / damping, available, weights["encoder"], squash
    )
    decoded = []
    for _ in states:
        c = context(
            state[0], states, available, weights["attention_kernel"], 0 * inputs[:, 0]
        )
        state = cell(kind, c, state, weights["decoder"], squash)
        decoded.append(state[0])
    f = dense(weights["readout"], np.concatenate(decoded))
    if "skip_kernel" in weights:
        f = f + inputs[-1] @ weights["skip_kernel"]
    return f


def carried_factors(kind, weights, series, available, squash=np.tanh, damping=1.0):
    """(T, K): step t attends to steps s <= t at a penalty |decay| (t - s), from zero.

    A missing step keeps its factors' state, and so its factors.
    """
    inputs = np.asarray(series) / damping
    states, _ = encoder(kind, inputs, available, weights["encoder"], squash)
    state, factors = zero_state(kind, weights["decoder"]), []
    for t, there in enumerate(available):
        if there:
            past = slice(0, t + 1)
            age = abs(float(weights["attention_decay"])) * (t - np.arange(t + 1))
            c = context(
                state[0],
                states[past],
                available[past],
                weights["attention_kernel"],
                age,
            )
            state = cell(kind, c, state, weights["decoder"], squash)
        factors.append(dense(weights["readout"], state[0]))
    return np.array(factors)


def literal_factors(kind, weights, series, available, squash=np.tanh, damping=1.0):
    """(T, K) as printed: every step attends to all months, starting from the last.

    A missing step keeps its state; nothing attends to it.
    """
    inputs = np.asarray(series) / damping
    states, state = encoder(kind, inputs, available, weights["encoder"], squash)
    factors = []
    for there in available:
        if there:
            c = context(
                state[0],
                states,
                available,
                weights["attention_kernel"],
                np.zeros(len(states)),
            )
            state = cell(kind, c, state, weights["decoder"], squash)
        factors.append(dense(weights["readout"], state[0]))
    return np.array(factors)


def memory_head(kind, weights, past, available, squash=np.tanh):
    """g of one row: each factor's own past through the same encoder and readout."""
    readout = weights["readout_kernel"][:, 0]
    return np.array(
        [
            encoder(kind, past[:, [k]], available, weights["encoder"], squash)[1][0]
            @ readout
            for k in range(past.shape[1])
        ]
    )


def expected_factors(factors, usable, rows, first, head=None, lookback=1):
    """lambda_t + s_t g_t of each row; without a head the mean lambda_t alone.

    lambda_t and s_t^2 are means of f and f^2 over usable rows first .. t-1; the head
    reads (f - lambda_t) / s_t of rows t-L .. t-1.

    Args:
      factors: (T, K) of every row. usable: (T,) bool, a row has a factor.
      rows: decisions t. first: first training row.
      head: (past, available) -> (K,), or None.
    """
    expected = []
    for t in rows:
        rows_before = [s for s in range(first, t) if usable[s]]
        if not rows_before:
            mean, spread = 0 * factors[0], 0.0
        else:
            mean = np.mean(factors[rows_before], axis=0)
            spread = np.sqrt(np.mean(factors[rows_before] ** 2, axis=0))
        if head is not None:
            lags = range(t - lookback, t)
            there = [s >= first and bool(usable[s]) for s in lags]
            past = [
                (factors[s] - mean) / spread if a else 0 * mean
                for s, a in zip(lags, there, strict=True)
            ]
            mean = mean + spread * head(np.array(past), there)
        expected.append(mean)
    return np.array(expected)


def layers(weights):
    """Kernels and biases of the beta network in order, the output layer last.

    A layer before batch norm has no bias.
    """
    flat = {path: np.asarray(leaf) for path, leaf in flatten_dict(weights).items()}
    paths = sorted(path[:-1] for path in flat if path[-1] == "kernel")
    return [(flat[(*path, "kernel")], flat.get((*path, "bias"), 0.0)) for path in paths]


def mean_absolute_kernel(weights):
    flat = flatten_dict(weights)
    kernels = [np.asarray(a) for path, a in flat.items() if path[-1].endswith("kernel")]
    return np.mean(np.abs(np.concatenate([kernel.ravel() for kernel in kernels])))


def interactions(c, x):
    """(n, P (1 + Q)) rows (1, x) kron c of one month's characteristics (n, P)."""
    return np.array([np.kron(np.concatenate([[1.0], x]), asset) for asset in c])


def multilayer(weights, z, moments, *, train):
    """(n,) outputs of n inputs and the running moments after, layer by layer.

    Batch norm standardises over the n inputs in training, by ``moments`` otherwise.
    """
    *hidden, (out, out_bias) = layers(weights)
    units, carried = np.asarray(z, float), []
    for index, (kernel, bias) in enumerate(hidden):
        units = units @ kernel + bias
        if moments:
            mean, variance = (np.asarray(moment) for moment in moments[index])
            if train:
                batch = units.mean(axis=0), units.var(axis=0)
                carried.append(
                    (0.9 * mean + 0.1 * batch[0], 0.9 * variance + 0.1 * batch[1])
                )
                mean, variance = batch
            affine = weights[f"affine_{index}"]
            units = (units - mean) / np.sqrt(variance + 1e-5)
            units = units * np.asarray(affine["scale"]) + np.asarray(affine["offset"])
        units = np.maximum(units, 0)
    return (units @ out + out_bias)[:, 0], carried


def huber(error, xi):
    """H(e), one error at a time; xi None is the square."""
    return np.array(
        [e * e if xi is None or abs(e) <= xi else xi * (2 * abs(e) - xi) for e in error]
    )
