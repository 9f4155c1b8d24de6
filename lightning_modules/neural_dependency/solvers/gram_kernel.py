"""The CovLasso solver's compiled core: one Lasso path per target, all targets in parallel on one shared Gram.

Minimises w^T Q w - 2 c^T w + 2 h ||w||_1, h = lam / 2, of §2.9. A working set grows by its worst violators;
its own Gram is gathered into the cache and solved there by sweeps of coordinate descent with covariance updates
(Friedman et al. 2010) and, for an ill-conditioned Gram, Newton steps on the support (feature-sign search, Lee et al.
2007). Then the gradient over all sources is made afresh, and the KKT conditions of all of them decide. In `rest`,
everywhere, is r = c - Q w.

Imported only where the solver runs, for numba takes a second to import. It is one file because numba's cache of a
function knows when that function's file changes and not when another does.
"""

import math

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]

# NaN and infinity keep their meaning; only the order of sums is free, which is what vector units need.
FAST = {"reassoc", "contract", "nsz", "arcp"}
# Sweeps before a Newton step, and rounds of both before giving up (our choice).
SWEEPS, CYCLES = 4, 100
# Least pivot of the Cholesky factor, relative: below it a direction counts as one that the Gram does not see.
PIVOT = 1e-11
# Relative error that a number may have of rounding (our choice).
ROUNDING = 1e-13
# Categories that violate by at least this share of the worst enter together (our choice).
SHARE = 0.25


@njit(cache=True, nogil=True)
def copy(values: Array, size: int, out: Array) -> None:
    """Copy the first numbers (an assignment of slices takes numba longer to compile)."""
    for p in range(size):
        out[p] = values[p]


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def sweep(gram: Array, rest: Array, w: Array, size: int, h: float) -> float:
    """Minimise over each coefficient in turn and return the largest change of the gradient on the way."""
    largest = 0.0
    for p in range(size):
        diagonal = gram[p, p]
        pull = rest[p] + diagonal * w[p]
        new = max(abs(pull) - h, 0.0) / diagonal
        if pull < 0:
            new = -new
        change = new - w[p]
        if change != 0.0:
            w[p] = new
            row = gram[p]
            for k in range(size):
                rest[k] -= change * row[k]
            largest = max(largest, abs(change) * diagonal)
    return largest


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def violation(rest: Array, w: Array, size: int, h: float) -> float:
    """Return the largest violation of the KKT conditions in the working set (not negative)."""
    largest = 0.0
    for p in range(size):
        if w[p] > 0:
            error = abs(rest[p] - h)
        elif w[p] < 0:
            error = abs(rest[p] + h)
        else:
            error = abs(rest[p]) - h
        largest = max(largest, error)
    return largest


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def solve(gram: Array, chosen: Indices, count: int, factor: Array, x: Array) -> None:
    """Overwrite x with (G_AA + E)^-1 x, where E lifts the pivots of a singular G_AA to `PIVOT`."""
    for i in range(count):
        left, row = factor[i], gram[chosen[i]]
        square = 0.0
        for j in range(i):
            right = factor[j]
            inner = 0.0
            for k in range(j):
                inner += left[k] * right[k]
            left[j] = (row[chosen[j]] - inner) / right[j]
        for j in range(i):
            square += left[j] * left[j]
        diagonal = row[chosen[i]]
        left[i] = math.sqrt(max(diagonal - square, PIVOT * diagonal))
    for i in range(count):
        inner = 0.0
        for k in range(i):
            inner += factor[i, k] * x[k]
        x[i] = (x[i] - inner) / factor[i, i]
    for i in range(count - 1, -1, -1):
        x[i] /= factor[i, i]
        left, value = factor[i], x[i]
        for k in range(i):
            x[k] -= value * left[k]


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def curvature(gram: Array, chosen: Indices, count: int, x: Array) -> float:
    """Return x^T G_AA x, and at least what rounding leaves of it."""
    total, square = 0.0, 0.0
    for i in range(count):
        row, inner = gram[chosen[i]], 0.0
        for j in range(count):
            inner += row[chosen[j]] * x[j]
        total += inner * x[i]
        square += x[i] * x[i]
    return max(total, 1e-15 * count * square)


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def objective(rest: Array, b: Array, w: Array, size: int, h: float) -> float:
    """Return w^T G w - 2 b^T w + 2 h ||w||_1."""
    total = 0.0
    for p in range(size):
        total += 2 * h * abs(w[p]) - w[p] * (b[p] + rest[p])
    return total


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def move(gram: Array, rest: Array, w: Array, old: Array, size: int) -> None:
    """Bring `rest` from the coefficients `old` to `w`."""
    for p in range(size):
        change = w[p] - old[p]
        if change != 0.0:
            row = gram[p]
            for k in range(size):
                rest[k] -= change * row[k]


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def support(rest: Array, w: Array, size: int, h: float, chosen: Indices, slope: Array) -> tuple[int, float]:
    """Write the members that have a coefficient and half of minus their gradient; return how many and the largest."""
    count, largest = 0, 0.0
    for p in range(size):
        if w[p] != 0.0:
            chosen[count] = p
            slope[count] = rest[p] - (h if w[p] > 0 else -h)
            largest = max(largest, abs(slope[count]))
            count += 1
    return count, largest


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def advance(w: Array, old: Array, chosen: Indices, x: Array, count: int, step: float) -> float:
    """Write w = old + step x, zero where the sign would change; return the step at which the first one does."""
    nearest = step
    for i in range(count):
        p = chosen[i]
        w[p] = old[p] + step * x[i]
        if x[i] * old[p] < 0.0:
            meets = -old[p] / x[i]
            # Within rounding of zero is zero: a sliver left there would stop the next step at once.
            if meets <= step * (1 + ROUNDING):
                w[p] = 0.0
                nearest = min(nearest, meets)
    return nearest


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def newton(gram: Array, rest: Array, b: Array, w: Array, size: int, h: float, tol: float) -> None:
    """Step towards the minimum over the support with its signs; coefficients that would change sign become zero.

    The step is the exact minimum along its line and is shortened where the cut goes uphill, so the objective never
    grows, not even where G_AA is singular.
    """
    chosen, x, slope = np.empty(size, np.int64), np.empty(size), np.empty(size)
    old, kept = np.empty(size), np.empty(size)
    count, largest = support(rest, w, size, h, chosen, slope)
    # Already at the minimum: a direction would be made of rounding.
    if largest <= 1e-3 * tol:
        return
    copy(slope, count, x)
    solve(gram, chosen, count, np.empty((count, count)), x)
    descent = 0.0
    for i in range(count):
        descent += slope[i] * x[i]
    step = max(descent, 0.0) / curvature(gram, chosen, count, x)
    before = objective(rest, b, w, size, h)
    most = before + ROUNDING * abs(before)
    copy(w, size, old)
    copy(rest, size, kept)
    # All crossings cut at once, or else the first one only.
    for _ in range(2):
        nearest = advance(w, old, chosen, x, count, step)
        move(gram, rest, w, old, size)
        # False for NaN as well: a singular support may send the step very far.
        if objective(rest, b, w, size, h) <= most:
            return
        copy(old, size, w)
        copy(kept, size, rest)
        step = nearest


@njit(cache=True, nogil=True, error_model="numpy")
def descend(gram: Array, rest: Array, w: Array, size: int, h: float, tol: float) -> None:
    """Solve the working set in place until its KKT violation is at most `tol`, or `CYCLES` are spent.

    Args:
        gram: [cap, cap], of which the first `size` rows and columns hold the working set.
        rest: b - G w, changed with w.
        w: coefficients, warm.
        size: members of the working set.
        h: threshold lam / 2.
        tol: violation at which to stop, in units of `rest`.
    """
    b, zero = np.empty(size), np.zeros(size)
    copy(rest, size, b)
    # From w to zero: b - G w becomes b.
    move(gram, b, zero, w, size)
    for _ in range(CYCLES):
        for _ in range(SWEEPS):
            if sweep(gram, rest, w, size, h) <= tol:
                break
        if violation(rest, w, size, h) <= tol:
            return
        newton(gram, rest, b, w, size, h, tol)
        if violation(rest, w, size, h) <= tol:
            return


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def gradient(gram: Array, target: Array, members: Indices, w: Array, size: int, out: Array) -> None:
    """Write r = c - Q w for all sources, four rows of the Gram at a time, which saves loads and stores of r."""
    rows, values = np.zeros(size + 4, np.int64), np.zeros(size + 4)
    count = 0
    for p in range(size):
        if w[p] != 0.0:
            rows[count], values[count] = members[p], w[p]
            count += 1
    for k in range(len(out)):
        out[k] = target[k]
    for p in range(0, count, 4):
        one, two, three, four = gram[rows[p]], gram[rows[p + 1]], gram[rows[p + 2]], gram[rows[p + 3]]
        a, b, c, d = values[p], values[p + 1], values[p + 2], values[p + 3]
        for k in range(len(out)):
            out[k] -= a * one[k] + b * two[k] + c * three[k] + d * four[k]


@njit(cache=True, nogil=True, error_model="numpy")
def prune(gram: Array, members: Indices, inside: Mask, w: Array, size: int) -> int:
    """Drop the members without a coefficient, in place, and return how many are left."""
    kept = 0
    for p in range(size):
        if w[p] == 0.0:
            inside[members[p]] = False
            continue
        if kept != p:
            members[kept], w[kept] = members[p], w[p]
            w[p] = 0.0
            for k in range(size):
                gram[kept, k] = gram[p, k]
            for k in range(size):
                gram[k, kept] = gram[k, p]
        kept += 1
    return kept


@njit(cache=True, nogil=True, error_model="numpy")
def worst_outside(rest: Array, inside: Mask, h: float) -> float:
    """Return by how much |r| passes the threshold outside the working set (not negative)."""
    largest = 0.0
    for k in range(len(rest)):
        if not inside[k]:
            largest = max(largest, abs(rest[k]) - h)
    return largest


@njit(cache=True, nogil=True, error_model="numpy")
def admit(
    gram: Array, rest: Array, h: float, members: Indices, inside: Mask, w: Array, size: int, own: Array
) -> tuple[int, Array]:
    """Take the worst violators into the working set; return its size and its Gram, enlarged if need be."""
    least = h + SHARE * worst_outside(rest, inside, h)
    for k in range(len(rest)):
        if inside[k] or abs(rest[k]) < least:
            continue
        if size == len(own):
            larger = np.empty((2 * size, 2 * size))
            for p in range(size):
                for q in range(size):
                    larger[p, q] = own[p, q]
            own = larger
        row = gram[k]
        for p in range(size):
            own[size, p] = own[p, size] = row[members[p]]
        own[size, size] = row[k]
        members[size], w[size], inside[k] = k, 0.0, True
        size += 1
    return size, own


@njit(cache=True, nogil=True, error_model="numpy")
def gather(rest: Array, members: Indices, size: int, local: Array) -> None:
    """Copy the working set's part of r."""
    for p in range(size):
        local[p] = rest[members[p]]


@njit(cache=True, nogil=True, error_model="numpy")
def walk(
    gram: Array,
    target: Array,
    banned: Indices,
    alphas: Array,
    tol: float,
    rounds: int,
    weights: Array,
    violations: Array,
    used: Indices,
) -> None:
    """Solve one target down the path; arguments as in `solve_targets`, less the first axis of targets."""
    sources = len(target)
    inside = np.zeros(sources, np.bool_)
    for k in banned:
        if k >= 0:
            inside[k] = True
    largest = worst_outside(target, inside, 0.0)
    if largest == 0.0:
        return
    members, w, local = np.empty(sources, np.int64), np.zeros(sources), np.empty(sources)
    own = np.empty((64, 64))
    rest, size = target.copy(), 0
    for a in range(len(alphas)):
        h = alphas[a] * largest
        size = prune(own, members, inside, w, size)
        for used_now in range(rounds + 1):
            gather(rest, members, size, local)
            outside = worst_outside(rest, inside, h)
            violations[a] = max(outside, violation(local, w, size, h)) / (2 * h)
            used[a] = used_now
            if violations[a] <= tol or used_now == rounds:
                break
            if outside > 0.0:
                size, own = admit(gram, rest, h, members, inside, w, size, own)
            gather(rest, members, size, local)
            descend(own, local, w, size, h, tol * h)
            gradient(gram, target, members, w, size, rest)
        for p in range(size):
            weights[a, members[p]] = w[p]
            if not math.isfinite(w[p]):
                violations[a] = np.inf


@njit(cache=True, nogil=True, parallel=True)
def solve_targets(
    gram: Array,
    cross: Array,
    banned: Indices,
    alphas: Array,
    tol: float,
    rounds: int,
    weights: Array,
    violations: Array,
    used: Indices,
) -> None:
    """Solve all targets, in parallel.

    Args:
        gram: [sources, sources], read only.
        cross: [targets, sources], c_i of every target.
        banned: [targets, any], sources that a target may not use; -1 for none.
        alphas: decreasing shares of the largest lam of a target.
        tol: KKT violation at which a solution is accepted, as a share of lam.
        rounds: most rounds of the working set at one alpha.
        weights: [targets, alphas, sources], zeros; receives w.
        violations: [targets, alphas], zeros; receives the KKT violation over all sources, as a share of lam.
        used: [targets, alphas], zeros; receives the rounds.
    """
    for t in prange(len(cross)):
        walk(gram, cross[t], banned[t], alphas, tol, rounds, weights[t], violations[t], used[t])
