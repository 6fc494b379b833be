"""exp, log, tanh, sigmoid, softplus and erf of one number, written so that a loop over them becomes vector instructions.

``math.exp`` in compiled code is one call of the C library for each element. These are short polynomials without branches or tables:

- exp: x = n ln 2 + r with |r| <= ln(2) / 2, then a polynomial for exp(r), then 2^n by way of the exponent's bits.
- log: x = 2^e m with m in [sqrt(1/2), sqrt(2)), then log(m) = 2 artanh(s), s = (m - 1) / (m + 1), by its series.

erf has series of its own; the rest follows from these two. Everything keeps nan, and gives the limits at +-inf. float32
and float64 differ in the number of terms and in the bit layout. See Muller, *Elementary Functions* (3rd ed., 2016),
chapters 5 and 11, for the method.
"""

from __future__ import annotations

import math

import numpy as np

from fastmlp.kernels.jit import elementary, per_dtype

_F4, _F8 = np.float32, np.float64

_LOG2_E_32, _LOG2_E_64 = _F4(1 / math.log(2)), _F8(1 / math.log(2))
_LN2_32, _LN2_64 = _F4(math.log(2)), _F8(math.log(2))
# ln 2 in two parts; n times the first is exact for every n that occurs.
_HIGH_32, _HIGH_64 = _F4(float.fromhex("0x1.62e4p-1")), _F8(float.fromhex("0x1.62e42feep-1"))
_LOW_32, _LOW_64 = _F4(float.fromhex("0x1.7f7d1cf79abcap-20")), _F8(float.fromhex("0x1.a39ef35793c76p-33"))

# Adding 1.5 * 2^(mantissa bits) rounds to an integer and leaves it in the low bits of the sum.
_ROUND_32, _ROUND_64 = _F4(1.5 * 2**23), _F8(1.5 * 2**52)
_ROUND_BITS_64 = np.int64(_ROUND_64.view(np.int64))

_EXP_HIGHEST_32, _EXP_HIGHEST_64 = _F4(88.72283), _F8(709.7827128933839)  # beyond: infinity
_EXP_LOWEST_32, _EXP_LOWEST_64 = _F4(-87.33654), _F8(-708.396418532264)  # beyond: zero, for what would be denormal
_TANH_HIGHEST_32, _TANH_HIGHEST_64 = _F4(9.0), _F8(45.0)  # of |x|, and of 2 |x|; beyond, tanh is 1 to nearly the last bit

# exp(r) = 1 + r + A2 r^2 + ...: in float32 fitted so that the largest error relative to exp(r) - 1 is least (2^-26), in float64 the
# series, 1 / k!.
_A2, _A3, _A4, _A5, _A6 = map(_F4, (0.49999997, 0.16666546, 0.041667435, 0.0083662616, 0.0013870657))
_B2, _B3, _B4, _B5, _B6, _B7, _B8, _B9, _B10, _B11, _B12, _B13 = (_F8(1 / math.factorial(k)) for k in range(2, 14))
# The series of artanh, 1 / (2 k + 1), as far as the dtype can tell.
_G1, _G2, _G3, _G4, _G5 = (_F4(1 / (2 * k + 1)) for k in range(1, 6))
_H1, _H2, _H3, _H4, _H5, _H6, _H7, _H8, _H9, _H10, _H11 = (_F8(1 / (2 * k + 1)) for k in range(1, 12))

# tanh(x / 2) = x / 2 * (N0 + N1 x^2 + N2 x^4) / (N0 + D1 x^2 + D2 x^4 + D3 x^6) for |x| <= 9, fitted so that the largest relative
# error of tanh x is least (Lawson's weights): 2^-27. Any N0 would do: with 1.8, d and d^2 are near the upper ends of their binades
# for small x, where rounding costs least (3 ulp at most, instead of 4.7).
_TANH_N0, _TANH_N1, _TANH_N2 = (_F4(1.8 * c) for c in (1, 0.02977564185857773, 0.000114293688966427))
_TANH_D1, _TANH_D2, _TANH_D3 = (_F4(1.8 * c) for c in (0.11310894042253494, 0.0012067416682639394, 1.2298423825995997e-06))

# erf, in two pieces: below 1, erf(x) / x in powers of 2 x^2 - 1; above, erfc(x) exp(x^2) in powers of (x - 2) / (x + 2), which is
# brought to [-1, 1] for x in [1, 6]. Chebyshev series computed with 40 digits, rewritten in powers.
_ERF_INNER_32 = tuple(
    map(
        _F4,
        (
            0.9654687386375511,
            -0.14053609728153707,
            0.019852497722779687,
            -0.0022854195288922554,
            0.0002175119897571632,
            -1.7669080811782094e-05,
            1.2316401735941664e-06,
        ),
    )
)
_ERF_OUTER_32 = tuple(
    map(
        _F4,
        (
            0.22142953896942177,
            -0.16189357028860338,
            0.03856061080237516,
            -0.005588786139895266,
            0.00019693696658607817,
            8.06826396804743e-05,
            -7.016015736556844e-06,
            -1.8306333624392533e-06,
        ),
    )
)
_ERF_INNER_64 = tuple(
    map(
        _F8,
        (
            0.9654687386698673,
            -0.14053608902271714,
            0.01985249668898365,
            -0.002285485561143729,
            0.00021751715604270659,
            -1.7537169443923077e-05,
            1.2233827341448889e-06,
            -7.511568473950247e-08,
            4.115807170404796e-09,
            -2.035335988866455e-10,
            9.162952739308462e-12,
            -3.7427067847944585e-13,
            1.579749489722238e-14,
            -1.4503568051627362e-15,
        ),
    )
)
_ERF_OUTER_64 = tuple(
    map(
        _F8,
        (
            0.2214295402299318,
            -0.16189356804102503,
            0.03856057042518206,
            -0.00558881628183795,
            0.00019713917773455644,
            8.079220424368755e-05,
            -7.34051797986817e-06,
            -1.9795617159921418e-06,
            1.6349950728075157e-07,
            7.005289312629401e-08,
            -5.888467344336679e-10,
            -2.623502075020805e-09,
            -2.684507230858003e-10,
            7.310896857793956e-11,
            2.200149779711148e-11,
            4.045122337725079e-13,
            -9.071925206376997e-13,
            -2.0357106649775988e-13,
        ),
    )
)
_ERF_HIGHEST_32, _ERF_HIGHEST_64 = _F4(6.0), _F8(6.0)  # beyond, erf is 1 to the last bit
_ERF_SCALE_32, _ERF_SCALE_64 = _F4(12 / 5), _F8(12 / 5)
_ERF_SHIFT_32, _ERF_SHIFT_64 = _F4(1 / 5), _F8(1 / 5)

_ONE_32, _ONE_64 = _F4(1), _F8(1)
_TWO_32, _TWO_64 = _F4(2), _F8(2)
_THREE_32, _THREE_64 = _F4(3), _F8(3)
_QUARTER_32 = _F4(0.25)
_ZERO_32, _ZERO_64 = _F4(0), _F8(0)
_INF_32, _INF_64 = _F4(np.inf), _F8(np.inf)
_NAN_32, _NAN_64 = _F4(np.nan), _F8(np.nan)
_SQRT2_32, _SQRT2_64 = _F4(math.sqrt(2)), _F8(math.sqrt(2))
_TINY_32, _TINY_64 = np.finfo(_F4).tiny, np.finfo(_F8).tiny
_SCALE_32, _SCALE_64 = _F4(2.0**25), _F8(2.0**54)
_SCALE_LOG2_32, _SCALE_LOG2_64 = _F4(25), _F8(54)
_SQRT_HALF_BITS_32 = np.int32(_F4(math.sqrt(0.5)).view(np.int32))
_SQRT_HALF_BITS_64 = np.int64(_F8(math.sqrt(0.5)).view(np.int64))


@elementary
def _exp_minus_one_series_32(r):
    """exp(r) - 1 for |r| <= ln(2) / 2, to the last bits even where r is tiny."""
    return r + r * r * (_A2 + r * (_A3 + r * (_A4 + r * (_A5 + r * _A6))))


@elementary
def _exp_minus_one_series_64(r):
    """exp(r) - 1 for |r| <= ln(2) / 2, to the last bits even where r is tiny."""
    high = _B7 + r * (_B8 + r * (_B9 + r * (_B10 + r * (_B11 + r * (_B12 + r * _B13)))))
    return r + r * r * (_B2 + r * (_B3 + r * (_B4 + r * (_B5 + r * (_B6 + r * high)))))


@elementary
def _exp_32(x):
    shifted = x * _LOG2_E_32 + _ROUND_32
    n = shifted - _ROUND_32
    r = (x - n * _HIGH_32) - n * _LOW_32
    mantissa = np.float32(_ONE_32 + _exp_minus_one_series_32(r))
    exponent = np.int32(np.float32(shifted).view(np.int32) << 23)  # the low bits are n, those above it are shifted out
    y = np.int32(mantissa.view(np.int32) + exponent).view(np.float32)
    y = _ZERO_32 if x < _EXP_LOWEST_32 else y
    return y if x <= _EXP_HIGHEST_32 else x + _INF_32  # nan stays nan


@elementary
def _exp_64(x):
    shifted = x * _LOG2_E_64 + _ROUND_64
    n = shifted - _ROUND_64
    r = (x - n * _HIGH_64) - n * _LOW_64
    mantissa = np.float64(_ONE_64 + _exp_minus_one_series_64(r))
    exponent = np.float64(shifted).view(np.int64) << 52
    y = np.int64(mantissa.view(np.int64) + exponent).view(np.float64)
    y = _ZERO_64 if x < _EXP_LOWEST_64 else y
    return y if x <= _EXP_HIGHEST_64 else x + _INF_64


@elementary
def _tanh_32(x):
    # tanh x = 2 tau / (1 + tau^2) = n d / (d^2 + n^2 / 4) with tau = tanh(x / 2) = n / 2 d: where tau comes near 1, and n and d
    # have the largest errors, tanh x hardly depends on them. A third less time than by exp.
    x = _TANH_HIGHEST_32 if x > _TANH_HIGHEST_32 else x
    x = -_TANH_HIGHEST_32 if x < -_TANH_HIGHEST_32 else x
    t = x * x
    n = x * (_TANH_N0 + t * (_TANH_N1 + t * _TANH_N2))
    d = _TANH_N0 + t * (_TANH_D1 + t * (_TANH_D2 + t * _TANH_D3))
    return n * d / (d * d + (n * _QUARTER_32) * n)


@elementary
def _tanh_64(x):
    # tanh|x| = m / (m + 2) with m = exp(2|x|) - 1 = 2^n (exp(r) - 1) + (2^n - 1): no cancellation near 0.
    t = _TWO_64 * (-x if x < _ZERO_64 else x)
    t = _TANH_HIGHEST_64 if t > _TANH_HIGHEST_64 else t
    shifted = t * _LOG2_E_64 + _ROUND_64
    n = shifted - _ROUND_64
    r = (t - n * _HIGH_64) - n * _LOW_64
    k = np.int64(np.float64(shifted).view(np.int64) - _ROUND_BITS_64)
    power = np.int64((k + 1023) << 52).view(np.float64)
    m = power * _exp_minus_one_series_64(r) + (power - _ONE_64)
    y = m / (m + _TWO_64)
    return -y if x < _ZERO_64 else y


@elementary
def _twice_artanh_32(s):
    """2 artanh(s) for |s| <= 0.172."""
    z = s * s
    return _TWO_32 * s + _TWO_32 * s * z * (_G1 + z * (_G2 + z * (_G3 + z * (_G4 + z * _G5))))


@elementary
def _twice_artanh_64(s):
    """2 artanh(s) for |s| <= 0.172."""
    z = s * s
    high = _H6 + z * (_H7 + z * (_H8 + z * (_H9 + z * (_H10 + z * _H11))))
    return _TWO_64 * s + _TWO_64 * s * z * (_H1 + z * (_H2 + z * (_H3 + z * (_H4 + z * (_H5 + z * high)))))


@elementary
def _log_32(x):
    tiny = x < _TINY_32
    scaled = x * (_SCALE_32 if tiny else _ONE_32)
    bits = np.float32(scaled).view(np.int32)
    e = np.int32(np.int32(bits - _SQRT_HALF_BITS_32) >> 23)
    m = np.int32(bits - (e << 23)).view(np.float32)
    exponent = np.float32(e)
    exponent = exponent - _SCALE_LOG2_32 if tiny else exponent
    y = exponent * _HIGH_32 + (_twice_artanh_32((m - _ONE_32) / (m + _ONE_32)) + exponent * _LOW_32)
    y = -_INF_32 if x == _ZERO_32 else y
    y = _NAN_32 if x < _ZERO_32 else y
    return y if x < _INF_32 else x


@elementary
def _log_64(x):
    tiny = x < _TINY_64
    scaled = x * (_SCALE_64 if tiny else _ONE_64)
    bits = np.float64(scaled).view(np.int64)
    e = (bits - _SQRT_HALF_BITS_64) >> 52
    m = np.int64(bits - (e << 52)).view(np.float64)
    exponent = np.float64(e)
    exponent = exponent - _SCALE_LOG2_64 if tiny else exponent
    y = exponent * _HIGH_64 + (_twice_artanh_64((m - _ONE_64) / (m + _ONE_64)) + exponent * _LOW_64)
    y = -_INF_64 if x == _ZERO_64 else y
    y = _NAN_64 if x < _ZERO_64 else y
    return y if x < _INF_64 else x


@elementary
def _log1p_32(x):
    """log(1 + x) for x in [0, 1], to the last bits even where x is tiny."""
    # Above sqrt(2), log(1 + x) = ln 2 + log((1 + x) / 2). One division for both: two would be a branch, and no vectors.
    upper = _ONE_32 + x > _SQRT2_32
    numerator = x - _ONE_32 if upper else x
    s = numerator / (x + (_THREE_32 if upper else _TWO_32))
    return _twice_artanh_32(s) + (_LN2_32 if upper else _ZERO_32)


@elementary
def _log1p_64(x):
    """log(1 + x) for x in [0, 1], to the last bits even where x is tiny."""
    upper = _ONE_64 + x > _SQRT2_64
    numerator = x - _ONE_64 if upper else x
    s = numerator / (x + (_THREE_64 if upper else _TWO_64))
    return _twice_artanh_64(s) + (_LN2_64 if upper else _ZERO_64)


@elementary
def _sigmoid_32(x):
    return _ONE_32 / (_ONE_32 + _exp_32(-x))


@elementary
def _sigmoid_64(x):
    return _ONE_64 / (_ONE_64 + _exp_64(-x))


@elementary
def _softplus_32(x):
    positive = _ZERO_32 if x < _ZERO_32 else x
    return positive + _log1p_32(_exp_32(x if x < _ZERO_32 else -x))


@elementary
def _softplus_64(x):
    positive = _ZERO_64 if x < _ZERO_64 else x
    return positive + _log1p_64(_exp_64(x if x < _ZERO_64 else -x))


@elementary
def _erf_32(x):
    magnitude = -x if x < _ZERO_32 else x
    small = _ONE_32 if magnitude > _ONE_32 else magnitude
    t = _TWO_32 * small * small - _ONE_32
    inner = _ERF_INNER_32[6]
    for k in (5, 4, 3, 2, 1, 0):
        inner = inner * t + _ERF_INNER_32[k]
    large = _ERF_HIGHEST_32 if magnitude > _ERF_HIGHEST_32 else magnitude
    t = (large - _TWO_32) / (large + _TWO_32) * _ERF_SCALE_32 - _ERF_SHIFT_32
    outer = _ERF_OUTER_32[7]
    for k in (6, 5, 4, 3, 2, 1, 0):
        outer = outer * t + _ERF_OUTER_32[k]
    y = small * inner if magnitude < _ONE_32 else _ONE_32 - _exp_32(-large * large) * outer
    return -y if x < _ZERO_32 else y


@elementary
def _erf_64(x):
    magnitude = -x if x < _ZERO_64 else x
    small = _ONE_64 if magnitude > _ONE_64 else magnitude
    t = _TWO_64 * small * small - _ONE_64
    inner = _ERF_INNER_64[13]
    for k in (12, 11, 10, 9, 8, 7, 6):  # loops this short are unrolled before the loop over elements is looked at
        inner = inner * t + _ERF_INNER_64[k]
    for k in (5, 4, 3, 2, 1, 0):
        inner = inner * t + _ERF_INNER_64[k]
    large = _ERF_HIGHEST_64 if magnitude > _ERF_HIGHEST_64 else magnitude
    t = (large - _TWO_64) / (large + _TWO_64) * _ERF_SCALE_64 - _ERF_SHIFT_64
    outer = _ERF_OUTER_64[17]
    for k in (16, 15, 14, 13, 12, 11):
        outer = outer * t + _ERF_OUTER_64[k]
    for k in (10, 9, 8, 7, 6, 5):
        outer = outer * t + _ERF_OUTER_64[k]
    for k in (4, 3, 2, 1, 0):
        outer = outer * t + _ERF_OUTER_64[k]
    y = small * inner if magnitude < _ONE_64 else _ONE_64 - _exp_64(-large * large) * outer
    return -y if x < _ZERO_64 else y


exp = per_dtype("exp", "e to the power x.", _exp_32, _exp_64)
log = per_dtype("log", "Natural logarithm.", _log_32, _log_64)
log1p = per_dtype("log1p", "log(1 + x) for x in [0, 1].", _log1p_32, _log1p_64)
tanh = per_dtype("tanh", "Hyperbolic tangent.", _tanh_32, _tanh_64)
sigmoid = per_dtype("sigmoid", "1 / (1 + exp(-x)).", _sigmoid_32, _sigmoid_64)
softplus = per_dtype("softplus", "log(1 + exp(x)), without overflow.", _softplus_32, _softplus_64)
erf = per_dtype("erf", "The error function.", _erf_32, _erf_64)


@elementary
def log_loss(z, y):
    """-y log(p) - (1 - y) log(1 - p) of p = sigmoid(z): z^+ - z y is exactly 0 where y is sure to come, so no digit is lost."""
    zero = type(z)(0)
    positive = z if z > zero else zero
    return (positive - z * y) + softplus(-z if z > zero else z)


@elementary
def cross_entropy(p, y):
    """-y log(p) - (1 - y) log(1 - p), in this order: y (log(p) - log(1 - p)) + log(1 - p) has no digits where p is nearly y = 1."""
    one = type(p)(1)
    return -(y * log(p) + (one - y) * log(one - p))
