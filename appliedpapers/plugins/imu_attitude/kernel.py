"""The arithmetic of the gravity filter, sample by sample and block by block.

The gyroscope carries an integration frame along (strapdown). In that frame gravity stands still but for what
the gyroscope gets wrong, and a moving sensor's acceleration is the second derivative of a position that stays
where it is. A Kalman filter over short blocks keeps both apart: its state is gravity (3), velocity (3) and
position (3) in the integration frame, the gyroscope's bias (3), and its scale and cross-axis errors (9), so
that ``true rate = (I - M) reading - bias``. What acceleration the motion model leaves over is white noise,
whose size follows from the last seconds.

Only scalars and two small arrays are touched between blocks. Every function runs under numba and, with lists
in place of ``memory`` and ``state``, in plain Python; both give the same numbers.

Above 400 lines because numba compiles and caches these functions as one unit, which calls within a file only.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

STATES = 21
GRAVITY, VELOCITY, POSITION, BIAS, SCALE = 0, 3, 6, 9, 12

# places in the memory
_Q = 0
_TURN = 4
_LAST = 7
_SLOW_GYR = 10
_SLOW_ACC = 13
RESTING = 16
_SUM_ACC = 17
_SUM_MATRIX = 20
_SUM_RATE = 29
_SPAN = 56
_COUNT = 57
_SUM_SQUARE = 58
_SEEN = 59
_STARTED = 60
_NOISE = 61
_TILT = 62
_STEP = 66
_RATE = 67
SPREAD = 70
_BLOCKS = 71
_WATCHED = 72
_CHANGE = 73
RECORD = 74
RECORDS = 20  # numbers a block: see close_block
MEMORY = RECORD + RECORDS

# places in the options
(
    O_BLOCK,
    O_GAP,
    O_NATURAL,
    O_DAMPING,
    O_LEAST,
    O_MOST,
    O_MEMORY,
    O_RESTING,
    O_GYR,
    O_GYR_SHARE,
    O_BIAS,
    O_BIAS_START,
    O_BIAS_RESTING,
    O_SCALE,
    O_REST_TAU,
    O_REST_GYR,
    O_REST_ACC,
    O_REST_TIME,
    O_GRAVITY,
    O_INSTANT,
) = range(20)

_START_TILT = 1.0  # radians that the first block may be off
_START_VELOCITY, _START_POSITION = 4.0, 1.0  # m/s, m
# a sensor that starts in motion may accelerate by several m/s^2; so many seconds does that count for
_START_NOISE, _START_WEIGHT = 2.0, 1.0
_QUIET_SWING = 0.4  # m/s^2 along each axis
_STILL_VELOCITY = 0.01  # m/s that a block at rest may be off
_STEP_MEMORY = 0.02
_MIRRORED = 20.0  # blocks between repairs of the covariance's symmetry


def take_sample(
    memory: Any,
    state: Any,
    options: Any,
    ax: float,
    ay: float,
    az: float,
    gx: float,
    gy: float,
    gz: float,
    step: float,
) -> bool:
    """Integrate one sample and add it to its block.

    Args:
        memory: What is remembered between samples, of length ``MEMORY``.
        state: Mean of the Kalman state, of length ``STATES``.
        options: In the order of the ``O_`` places.
        ax: Specific force in m/s^2, as ay and az are.
        ay: Along y.
        az: Along z.
        gx: Angular rate in rad/s, as gy and gz are.
        gy: About y.
        gz: About z.
        step: Seconds since the sample before; 0 for the first one.

    Returns:
        Whether the block is full, and :func:`close_block` is due.
    """
    x = gx - state[9] - state[12] * gx - state[13] * gy - state[14] * gz
    y = gy - state[10] - state[15] * gx - state[16] * gy - state[17] * gz
    z = gz - state[11] - state[18] * gx - state[19] * gy - state[20] * gz
    first = memory[_SEEN] == 0.0
    memory[_SEEN] += 1.0
    if first:
        memory[_SLOW_GYR], memory[_SLOW_GYR + 1], memory[_SLOW_GYR + 2] = gx, gy, gz
        memory[_SLOW_ACC], memory[_SLOW_ACC + 1], memory[_SLOW_ACC + 2] = ax, ay, az
        memory[_LAST], memory[_LAST + 1], memory[_LAST + 2] = x, y, z
        memory[_Q] = 1.0
        memory[_TILT] = 1.0
        memory[SPREAD] = _START_TILT
    elif step > options[O_GAP]:
        _forget_motion(memory)
        memory[_LAST], memory[_LAST + 1], memory[_LAST + 2] = x, y, z
    else:
        _turn(memory, options, x, y, z, step)
        _watch_rest(memory, options, ax, ay, az, gx, gy, gz, step)
    memory[_RATE], memory[_RATE + 1], memory[_RATE + 2] = x, y, z
    _add_to_block(memory, ax, ay, az, gx, gy, gz, step)
    if memory[_STARTED] == 0.0:
        _level(memory, memory[_SUM_ACC], memory[_SUM_ACC + 1], memory[_SUM_ACC + 2])
    return bool(memory[_SPAN] + 0.5 * memory[_STEP] >= options[O_BLOCK])


def _forget_motion(memory: Any) -> None:
    """Start anew after a gap, in which the sensor may have turned in any way; the bias is kept."""
    memory[_STARTED] = 0.0
    memory[SPREAD] = _START_TILT
    memory[RESTING] = 0.0
    memory[_TURN] = memory[_TURN + 1] = memory[_TURN + 2] = 0.0
    _empty_block(memory)


def _empty_block(memory: Any) -> None:
    for place in range(_SUM_ACC, _SUM_SQUARE + 1):
        memory[place] = 0.0


def _turn(memory: Any, options: Any, x: float, y: float, z: float, step: float) -> None:
    """Turn the integration frame by mean rates over a step, with the coning term of the step before."""
    usual = memory[_STEP]
    if usual == 0.0:
        usual = step
        memory[_STEP] = step
    elif step < 3.0 * usual:
        memory[_STEP] = usual + _STEP_MEMORY * (step - usual)
    # a reading is the mean rate of a usual step, or that of a moment; what was lost lies between two readings
    lost = max(step - 1.5 * usual, 0.0)
    lost += options[O_INSTANT] * (step - lost)
    kept = step - lost
    dx = x * kept + 0.5 * (x + memory[_LAST]) * lost
    dy = y * kept + 0.5 * (y + memory[_LAST + 1]) * lost
    dz = z * kept + 0.5 * (z + memory[_LAST + 2]) * lost
    px, py, pz = memory[_TURN], memory[_TURN + 1], memory[_TURN + 2]
    memory[_TURN], memory[_TURN + 1], memory[_TURN + 2] = dx, dy, dz
    memory[_LAST], memory[_LAST + 1], memory[_LAST + 2] = x, y, z
    rx = dx + (py * dz - pz * dy) / 12.0
    ry = dy + (pz * dx - px * dz) / 12.0
    rz = dz + (px * dy - py * dx) / 12.0
    angle = math.sqrt(rx * rx + ry * ry + rz * rz)
    cosine = math.cos(0.5 * angle)
    ratio = math.sin(0.5 * angle) / angle if angle > 1e-9 else 0.5
    bx, by, bz = rx * ratio, ry * ratio, rz * ratio
    qw, qx, qy, qz = memory[_Q], memory[_Q + 1], memory[_Q + 2], memory[_Q + 3]
    w = qw * cosine - qx * bx - qy * by - qz * bz
    i = qw * bx + qx * cosine + qy * bz - qz * by
    j = qw * by - qx * bz + qy * cosine + qz * bx
    k = qw * bz + qx * by - qy * bx + qz * cosine
    length = math.sqrt(w * w + i * i + j * j + k * k)
    memory[_Q], memory[_Q + 1] = w / length, i / length
    memory[_Q + 2], memory[_Q + 3] = j / length, k / length


def _watch_rest(
    memory: Any,
    options: Any,
    ax: float,
    ay: float,
    az: float,
    gx: float,
    gy: float,
    gz: float,
    step: float,
) -> None:
    """Count the seconds at rest, as arXiv 2203.17024 does: both sensors stay near their own recent means."""
    gain = 1.0 - math.exp(-step / options[O_REST_TAU])
    slow = 0.0
    moved = 0.0
    for axis in range(3):
        reading = gx if axis == 0 else (gy if axis == 1 else gz)
        mean = memory[_SLOW_GYR + axis] + gain * (reading - memory[_SLOW_GYR + axis])
        memory[_SLOW_GYR + axis] = mean
        slow = max(slow, abs(mean))
        moved += (reading - mean) ** 2
    shaken = 0.0
    for axis in range(3):
        reading = ax if axis == 0 else (ay if axis == 1 else az)
        mean = memory[_SLOW_ACC + axis] + gain * (reading - memory[_SLOW_ACC + axis])
        memory[_SLOW_ACC + axis] = mean
        shaken += (reading - mean) ** 2
    limit = options[O_REST_GYR]
    if moved < limit * limit and shaken < options[O_REST_ACC] ** 2 and slow < limit:
        memory[RESTING] += step
    else:
        memory[RESTING] = 0.0


def _add_to_block(
    memory: Any, ax: float, ay: float, az: float, gx: float, gy: float, gz: float, step: float
) -> None:
    """Add the specific force, the orientation and the readings in the integration frame to the block."""
    w, x, y, z = memory[_Q], memory[_Q + 1], memory[_Q + 2], memory[_Q + 3]
    for row in range(3):
        if row == 0:
            a, b, c = 1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - w * z), 2.0 * (x * z + w * y)
        elif row == 1:
            a, b, c = 2.0 * (x * y + w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - w * x)
        else:
            a, b, c = 2.0 * (x * z - w * y), 2.0 * (y * z + w * x), 1.0 - 2.0 * (x * x + y * y)
        memory[_SUM_ACC + row] += a * ax + b * ay + c * az
        place = _SUM_MATRIX + 3 * row
        memory[place] += a
        memory[place + 1] += b
        memory[place + 2] += c
        place = _SUM_RATE + 9 * row
        memory[place] += a * gx
        memory[place + 1] += a * gy
        memory[place + 2] += a * gz
        memory[place + 3] += b * gx
        memory[place + 4] += b * gy
        memory[place + 5] += b * gz
        memory[place + 6] += c * gx
        memory[place + 7] += c * gy
        memory[place + 8] += c * gz
    memory[_SUM_SQUARE] += gx * gx + gy * gy + gz * gz
    memory[_SPAN] += step
    memory[_COUNT] += 1.0


def close_block(memory: Any, state: Any, covariance: Any, options: Any) -> None:
    """Correct the state by the means of a full block and predict the next one.

    What the block held is left in the memory from ``RECORD`` on: mean force (3) and mean rate (3) in the
    integration frame, velocity (3), position (3), seconds, expected tilt error, length of gravity, the tilt
    (4), whether the sensor rested.

    Args:
        memory: As in :func:`take_sample`; an array here.
        state: ``(STATES,)``.
        covariance: ``(STATES, STATES)``.
        options: As in :func:`take_sample`.
    """
    count = memory[_COUNT]
    span = max(memory[_SPAN], 1e-6)
    force = memory[_SUM_ACC : _SUM_ACC + 3] / count
    axes = memory[_SUM_MATRIX : _SUM_MATRIX + 9].copy().reshape(3, 3) / count
    rates = memory[_SUM_RATE : _SUM_RATE + 27].copy().reshape(3, 9) / count
    square = memory[_SUM_SQUARE] / count
    if memory[_STARTED] == 0.0:
        _start(memory, state, covariance, options, force)
    resting = memory[RESTING] > options[O_REST_TIME]
    # low-passed readings take seconds to settle, but two blocks alike already tell a rest from a motion
    swing = _quiet_swing(memory, options, force, span)
    quiet = resting or (swing < _QUIET_SWING**2 and square < options[O_REST_GYR] ** 2)
    # at rest nothing accelerates, wherever it rests: there is no coming back to tell gravity apart by
    natural = 0.0 if quiet else options[O_NATURAL]
    damping = 2.0 * options[O_DAMPING] * natural
    surprise = np.zeros(3)
    for axis in range(3):
        surprise[axis] = force[axis] - state[axis] + damping * state[3 + axis]
        surprise[axis] += natural * natural * state[6 + axis]
    # at first a plain mean, so that a start in motion is not believed for long
    memory[_WATCHED] += span
    share = 1.0 - span / min(memory[_WATCHED], options[O_MEMORY])
    # the noise is a density: a mean over a longer block is less noisy
    power = (surprise[0] ** 2 + surprise[1] ** 2 + surprise[2] ** 2) / 3.0 * span
    memory[_NOISE] = share * memory[_NOISE] + (1.0 - share) * power
    density = min(max(memory[_NOISE], options[O_LEAST] ** 2), options[O_MOST] ** 2)
    if resting:
        density = options[O_RESTING] ** 2
    elif quiet:
        density = min(density, max(swing / options[O_NATURAL], options[O_RESTING] ** 2))
    seen = np.zeros((3, STATES))
    for axis in range(3):
        seen[axis, axis] = 1.0
        seen[axis, 3 + axis] = -damping
        seen[axis, 6 + axis] = -natural * natural
    _correct(state, covariance, seen, surprise, density / span)
    if resting:
        _stand_still(memory, state, covariance, options, span)
    _predict(state, covariance, options, force, axes, rates, square, span)
    memory[_BLOCKS] += 1.0
    if memory[_BLOCKS] >= _MIRRORED:
        memory[_BLOCKS] = 0.0
        _mirror(covariance)
    _level(memory, state[0], state[1], state[2])
    memory[SPREAD] = _tilt_sd(state, covariance)
    for axis in range(3):
        memory[RECORD + axis] = force[axis]
        memory[RECORD + 3 + axis] = rates[axis, 0] + rates[axis, 4] + rates[axis, 8]
        memory[RECORD + 6 + axis] = state[3 + axis]
        memory[RECORD + 9 + axis] = state[6 + axis]
    memory[RECORD + 12] = span
    memory[RECORD + 13] = memory[SPREAD]
    memory[RECORD + 14] = math.sqrt(state[0] ** 2 + state[1] ** 2 + state[2] ** 2)
    for axis in range(4):
        memory[RECORD + 15 + axis] = memory[_TILT + axis]
    memory[RECORD + 19] = 1.0 if resting else 0.0
    for place in range(_SUM_ACC, _SUM_SQUARE + 1):
        memory[place] = 0.0


def _stand_still(memory: Any, state: Any, covariance: Any, options: Any, span: float) -> None:
    """Correct the state by what rest says: no velocity, and a gyroscope that reads its bias."""
    still = np.zeros((3, STATES))
    change = np.zeros(3)
    for axis in range(3):
        still[axis, 3 + axis] = 1.0
        change[axis] = -state[3 + axis]
    _correct(state, covariance, still, change, _STILL_VELOCITY**2)
    for axis in range(3):
        still[axis, 3 + axis] = 0.0
        still[axis, 9 + axis] = 1.0
        change[axis] = memory[_SLOW_GYR + axis] - state[9 + axis]
    # low-passed readings repeat themselves for the time constant
    variance = options[O_BIAS_RESTING] ** 2 * max(options[O_REST_TAU] / span, 1.0)
    _correct(state, covariance, still, change, variance)


def _quiet_swing(memory: Any, options: Any, force: Any, span: float) -> float:
    """Return the squared acceleration that the slowest motion could have without more change than was seen.

    The larger change of the last two blocks counts: at its turning point every motion stands still for one.
    """
    change = 0.0
    for axis in range(3):
        change += (force[axis] - memory[RECORD + axis]) ** 2 / 3.0
    largest = max(change, memory[_CHANGE])
    memory[_CHANGE] = change
    return float(largest / (options[O_NATURAL] * span) ** 2)


def _start(memory: Any, state: Any, covariance: Any, options: Any, force: Any) -> None:
    """Take gravity from the first block, and what is known of the gyroscope from before, or from nothing.

    Its length is as unknown as its direction: a length that is believed, along a direction that an
    acceleration has turned away, keeps the filter from ever coming back.
    """
    memory[_STARTED] = 1.0
    memory[_NOISE] = _START_NOISE**2
    memory[_WATCHED] = _START_WEIGHT
    length = math.sqrt(force[0] ** 2 + force[1] ** 2 + force[2] ** 2)
    gravity = options[O_GRAVITY]
    known = covariance[9, 9] > 0.0
    for row in range(9):
        for column in range(STATES):
            covariance[row, column] = 0.0
            covariance[column, row] = 0.0
    for axis in range(3):
        state[axis] = force[axis] / length * gravity if length > 0.0 else (gravity if axis == 2 else 0.0)
        state[3 + axis] = 0.0
        state[6 + axis] = 0.0
        covariance[axis, axis] = (_START_TILT * gravity) ** 2
        covariance[3 + axis, 3 + axis] = _START_VELOCITY**2
        covariance[6 + axis, 6 + axis] = _START_POSITION**2
        if not known:
            covariance[9 + axis, 9 + axis] = options[O_BIAS_START] ** 2
    if not known:
        for place in range(12, STATES):
            covariance[place, place] = options[O_SCALE] ** 2


def _correct(state: Any, covariance: Any, seen: Any, surprise: Any, variance: float) -> None:
    """Correct by three measurements ``seen @ state`` whose errors have one variance."""
    cross = np.dot(covariance, np.ascontiguousarray(seen.T))
    spread = np.dot(seen, cross)
    for axis in range(3):
        spread[axis, axis] += variance
    gain = np.dot(cross, np.linalg.inv(spread))
    state += np.dot(gain, surprise)
    covariance -= np.dot(gain, np.ascontiguousarray(cross.T))


def _mirror(covariance: Any) -> None:
    """Make the covariance symmetric again, which rounding takes away little by little."""
    for row in range(STATES):
        for column in range(row):
            mean = 0.5 * (covariance[row, column] + covariance[column, row])
            covariance[row, column] = mean
            covariance[column, row] = mean


def _predict(
    state: Any, covariance: Any, options: Any, force: Any, axes: Any, rates: Any, square: float, span: float
) -> None:
    """Carry velocity and position over the block, and let the gyroscope's errors turn gravity away."""
    change = np.zeros((STATES, STATES))
    for place in range(STATES):
        change[place, place] = 1.0
    # a frame that turns too fast by e carries gravity along: d gravity / dt = e x gravity
    for row in range(3):
        after, before = (row + 1) % 3, (row + 2) % 3
        up, down = span * state[before], span * state[after]
        for column in range(3):
            change[row, 9 + column] = axes[after, column] * up - axes[before, column] * down
        for column in range(9):
            change[row, 12 + column] = rates[after, column] * up - rates[before, column] * down
    for axis in range(3):
        change[3 + axis, axis] = -span
        change[6 + axis, 3 + axis] = span
        change[6 + axis, axis] = -0.5 * span * span
        driven = force[axis] - state[axis]
        state[6 + axis] += span * state[3 + axis] + 0.5 * span * span * driven
        state[3 + axis] += span * driven
    covariance[:, :] = np.dot(np.dot(change, covariance), np.ascontiguousarray(change.T))
    drift = options[O_GYR] ** 2 + options[O_GYR_SHARE] ** 2 * square
    gravity = options[O_GRAVITY] ** 2
    for axis in range(3):
        covariance[axis, axis] += span * gravity * drift
        covariance[9 + axis, 9 + axis] += span * options[O_BIAS] ** 2


def _tilt_sd(state: Any, covariance: Any) -> float:
    """Return by how much the direction of gravity may be off, root mean square in radians."""
    square = 0.0
    total = 0.0
    along = 0.0
    for row in range(3):
        square += state[row] ** 2
        total += covariance[row, row]
        for column in range(3):
            along += state[row] * covariance[row, column] * state[column]
    return math.sqrt(max(total - along / square, 0.0) / square)


def _level(memory: Any, gx: float, gy: float, gz: float) -> None:
    """Turn the tilt by as little as brings gravity to the vertical: heading does not jump."""
    length = math.sqrt(gx * gx + gy * gy + gz * gz)
    if length == 0.0:
        return
    gx, gy, gz = gx / length, gy / length, gz / length
    tw, tx, ty, tz = memory[_TILT], memory[_TILT + 1], memory[_TILT + 2], memory[_TILT + 3]
    cx, cy, cz = ty * gz - tz * gy, tz * gx - tx * gz, tx * gy - ty * gx
    ex = gx + 2.0 * (tw * cx + ty * cz - tz * cy)
    ey = gy + 2.0 * (tw * cy + tz * cx - tx * cz)
    ez = gz + 2.0 * (tw * cz + tx * cy - ty * cx)
    # from (ex, ey, ez) to (0, 0, 1): half of the angle about (ey, -ex, 0)
    cw, ci, cj = 1.0 + ez, ey, -ex
    size = math.sqrt(cw * cw + ci * ci + cj * cj)
    if size < 1e-6:
        cw, ci, cj, size = 0.0, 1.0, 0.0, 1.0
    cw, ci, cj = cw / size, ci / size, cj / size
    w = cw * tw - ci * tx - cj * ty
    i = cw * tx + ci * tw + cj * tz
    j = cw * ty - ci * tz + cj * tw
    k = cw * tz + ci * ty - cj * tx
    length = math.sqrt(w * w + i * i + j * j + k * k)
    memory[_TILT], memory[_TILT + 1] = w / length, i / length
    memory[_TILT + 2], memory[_TILT + 3] = j / length, k / length


def orientation(memory: Any, delay: float) -> tuple[float, float, float, float]:
    """Return the orientation ``(w, x, y, z)``, carried on for the ``delay`` of the readings in seconds."""
    tw, tx, ty, tz = memory[_TILT], memory[_TILT + 1], memory[_TILT + 2], memory[_TILT + 3]
    qw, qx, qy, qz = memory[_Q], memory[_Q + 1], memory[_Q + 2], memory[_Q + 3]
    aw = tw * qw - tx * qx - ty * qy - tz * qz
    ax = tw * qx + tx * qw + ty * qz - tz * qy
    ay = tw * qy - tx * qz + ty * qw + tz * qx
    az = tw * qz + tx * qy - ty * qx + tz * qw
    hx, hy = 0.5 * delay * memory[_RATE], 0.5 * delay * memory[_RATE + 1]
    hz = 0.5 * delay * memory[_RATE + 2]
    square = hx * hx + hy * hy + hz * hz
    angle = math.sqrt(square)
    cosine = math.cos(angle)
    ratio = math.sin(angle) / angle if angle > 1e-9 else 1.0
    hx, hy, hz = hx * ratio, hy * ratio, hz * ratio
    return (
        aw * cosine - ax * hx - ay * hy - az * hz,
        aw * hx + ax * cosine + ay * hz - az * hy,
        aw * hy - ax * hz + ay * cosine + az * hx,
        aw * hz + ax * hy - ay * hx + az * cosine,
    )


def run_batch(
    memory: Any,
    state: Any,
    covariance: Any,
    options: Any,
    acc: Any,
    gyr: Any,
    steps: Any,
    delay: float,
    quaternions: Any,
    spreads: Any,
    biases: Any,
    resting: Any,
    records: Any,
    ends: Any,
) -> int:
    """Take every sample in turn and write what :func:`orientation` and the state say after each.

    Args:
        memory: As in :func:`close_block`.
        state: Likewise.
        covariance: Likewise.
        options: Likewise.
        acc: ``(N, 3)`` in m/s^2.
        gyr: ``(N, 3)`` in rad/s.
        steps: ``(N,)`` seconds since the sample before.
        delay: As in :func:`orientation`.
        quaternions: ``(N, 4)``, written.
        spreads: ``(N,)``, written.
        biases: ``(N, 3)``, written.
        resting: ``(N,)`` bool, written.
        records: ``(N, RECORDS)``, written: a row a block that was closed.
        ends: ``(N,)`` int64, written: the samples that closed them.

    Returns:
        Number of blocks that were closed.
    """
    blocks = 0
    for n in range(len(steps)):
        full = take_sample(
            memory,
            state,
            options,
            acc[n, 0],
            acc[n, 1],
            acc[n, 2],
            gyr[n, 0],
            gyr[n, 1],
            gyr[n, 2],
            steps[n],
        )
        if full:
            close_block(memory, state, covariance, options)
            for place in range(RECORDS):
                records[blocks, place] = memory[RECORD + place]
            ends[blocks] = n
            blocks += 1
        w, x, y, z = orientation(memory, delay)
        quaternions[n, 0], quaternions[n, 1], quaternions[n, 2], quaternions[n, 3] = w, x, y, z
        spreads[n] = memory[SPREAD]
        biases[n, 0], biases[n, 1], biases[n, 2] = state[9], state[10], state[11]
        resting[n] = memory[RESTING] > options[O_REST_TIME]
    return blocks
