"""What every indicator must equal: TA-Lib, else numpy window by window, on the same bars."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import talib

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Bars:
    """The bars of one symbol as arrays, oldest first."""

    open: Values
    high: Values
    low: Values
    close: Values
    vwap: Values
    volume: Values

    def __len__(self) -> int:
        return len(self.close)


@dataclass(frozen=True)
class Reference:
    """The parameters an indicator is asked with, and what its columns must then equal."""

    parameters: dict[str, Any]
    columns: Mapping[str, Callable[[Bars], Values]]


def rolling(values: Values, n: int) -> Any:
    return np.lib.stride_tricks.sliding_window_view(values, n)


def late(values: Any, size: int) -> Values:
    """Values for the last bars; NaN for those before."""
    return np.concatenate([np.full(size - len(values), np.nan), values])


def returns(closes: Values) -> Values:
    return 100 * (closes[1:] / closes[:-1] - 1)


def over_windows(values: Values, n: int, function: Callable[[Any], Any], size: int | None = None) -> Values:
    """A function of each window of n values; NaN before the first whole window."""
    size = len(values) if size is None else size
    return late(function(rolling(values, n)) if len(values) >= n else np.empty(0), size)


def drawdown(windows: Any) -> Any:
    return 100 * np.max(1 - windows / np.maximum.accumulate(windows, axis=1), axis=1)


def on_returns(function: Callable[[Any], Any], n: int) -> Callable[[Bars], Values]:
    return lambda bars: over_windows(returns(bars.close), n, function, len(bars))


def of_close(function: Callable[..., Values], *arguments: float) -> Callable[[Bars], Values]:
    return lambda bars: function(bars.close, *arguments)


def of_range(function: Callable[..., Values], *arguments: float) -> Callable[[Bars], Values]:
    return lambda bars: function(bars.high, bars.low, bars.close, *arguments)


def of_high_low(function: Callable[..., Values], *arguments: float) -> Callable[[Bars], Values]:
    return lambda bars: function(bars.high, bars.low, *arguments)


def of_bar(function: Callable[..., Values]) -> Callable[[Bars], Values]:
    return lambda bars: function(bars.open, bars.high, bars.low, bars.close)


def part(function: Callable[[Bars], Any], number: int) -> Callable[[Bars], Values]:
    """One of several results."""
    return lambda bars: function(bars)[number]


def parts(names: str, function: Callable[[Bars], Any]) -> dict[str, Callable[[Bars], Values]]:
    return {name: part(function, number) for number, name in enumerate(names.split())}


def ppo(fast: int, slow: int, signal: int) -> Callable[[Bars], Any]:
    def lines(bars: Bars) -> tuple[Values, Values, Values]:
        line = talib.PPO(bars.close, fast, slow, matype=talib.MA_Type.EMA)
        smooth = talib.EMA(line, signal) if signal > 1 else line
        warm = np.where(np.isnan(smooth), np.nan, line)
        return warm, smooth, warm - smooth

    return lines


def keltner(n: int, multiplier: float, atr_n: int) -> Callable[[Bars], Any]:
    def bands(bars: Bars) -> tuple[Values, Values, Values]:
        middle, width = talib.EMA(bars.close, n), multiplier * talib.ATR(bars.high, bars.low, bars.close, atr_n)
        return middle + width, np.where(np.isnan(width), np.nan, middle), middle - width

    return bands


def donchian(n: int) -> Callable[[Bars], Any]:
    def bands(bars: Bars) -> tuple[Values, Values, Values]:
        upper, lower = talib.MAX(bars.high, n), talib.MIN(bars.low, n)
        return upper, (upper + lower) / 2, lower

    return bands


def rolling_vwap(n: int) -> Callable[[Bars], Values]:
    def value(bars: Bars) -> Values:
        traded = over_windows(bars.vwap * bars.volume, n, lambda w: w.sum(axis=1))
        shares = over_windows(bars.volume, n, lambda w: w.sum(axis=1))
        return np.divide(traded, shares, out=np.full(len(bars), np.nan), where=shares != 0)

    return value


def of_volume(function: Callable[..., Values], *arguments: float) -> Callable[[Bars], Values]:
    return lambda bars: function(bars.high, bars.low, bars.close, bars.volume, *arguments)


def one(name: str, function: Callable[[Bars], Values], **parameters: Any) -> Reference:
    return Reference(parameters, {name: function})


def plus_dm(high: Values, low: Values, close: Values, n: int) -> Values:
    return np.asarray(talib.PLUS_DM(high, low, n))


def minus_dm(high: Values, low: Values, close: Values, n: int) -> Values:
    return np.asarray(talib.MINUS_DM(high, low, n))


def without_ties(bars: Bars) -> tuple[Values, Values, Values] | None:
    """High, low and close that move as the bars do where no tie is decided by the last bit; None where none is.

    TA-Lib compares the rise of the high with the fall of the low as doubles: of 25.51 - 25.38 and 25.33 - 25.20 one is
    larger. Where they tie, neither counts (Wilder); so in TA-Lib's own words: each side moves alone.
    """
    rise, fall = np.diff(bars.high), -np.diff(bars.low)
    is_tie = np.abs(rise - fall) <= 1e-12 * bars.high[1:]
    if not (is_tie & (rise != fall) & (np.maximum(rise, fall) > 0)).any():
        return None
    rises = np.where(~is_tie & (rise > 0) & (rise > fall), rise, 0)
    falls = np.where(~is_tie & (fall > 0) & (fall > rise), fall, 0)
    high, low = (np.concatenate([[0.0], np.cumsum(moves)]) for moves in (rises, -falls))
    return high, low, (high + low) / 2


def of_moves(function: Callable[..., Any]) -> Callable[..., Values]:
    """What is made of directional moves alone: the true range cancels in it."""

    def values(bars: Bars, n: int) -> Values:
        return np.asarray(function(*(without_ties(bars) or (bars.high, bars.low, bars.close)), n))

    return values


def of_moves_by_range(function: Callable[..., Any], moves: Callable[..., Values]) -> Callable[..., Values]:
    """What is made of directional moves and of the true range of the bars as they are."""

    def values(bars: Bars, n: int) -> Values:
        given = bars.high, bars.low, bars.close
        told, alone = np.asarray(function(*given, n)), without_ties(bars)
        if alone is None:
            return told
        before = moves(*given, n)
        return told * np.divide(moves(*alone, n), before, out=np.ones_like(before), where=before > 0)

    return values


def references(n: int) -> dict[str, Reference]:
    """Every indicator's reference; n sets the scale of all its windows."""
    fast, slow, signal = max(2, n // 2), max(2, n), max(1, n // 3)
    pair = {"fast": fast, "slow": slow}
    macd = pair | {"signal": signal}
    short, medium, long = max(1, n // 2), n, 2 * n
    volume_factor = 0.7
    close_n = {
        "sma": talib.SMA,
        "ema": talib.EMA,
        "wma": talib.WMA,
        "dema": talib.DEMA,
        "tema": talib.TEMA,
        "trima": talib.TRIMA,
        "midpoint": talib.MIDPOINT,
        "rolling_max": talib.MAX,
        "rolling_min": talib.MIN,
        "rolling_sum": talib.SUM,
        "rsi": talib.RSI,
        "cmo": talib.CMO,
        "mom": talib.MOM,
        "roc": talib.ROC,
        "rocp": talib.ROCP,
        "rocr": talib.ROCR,
        "rocr100": talib.ROCR100,
        "trix": talib.TRIX,
        "var": talib.VAR,
        "avgdev": talib.AVGDEV,
        "linearreg": talib.LINEARREG,
        "linearreg_slope": talib.LINEARREG_SLOPE,
        "linearreg_intercept": talib.LINEARREG_INTERCEPT,
        "linearreg_angle": talib.LINEARREG_ANGLE,
        "tsf": talib.TSF,
        "cumulative_return": talib.ROC,
    }
    range_n = {
        "atr": talib.ATR,
        "natr": talib.NATR,
        "cci": talib.CCI,
        "willr": talib.WILLR,
    }
    high_low_n = {
        "midprice": talib.MIDPRICE,
        "aroonosc": talib.AROONOSC,
    }
    directional = {
        "adx": of_moves(talib.ADX),
        "adxr": of_moves(talib.ADXR),
        "dx": of_moves(talib.DX),
        "plus_dm": of_moves(plus_dm),
        "minus_dm": of_moves(minus_dm),
        "plus_di": of_moves_by_range(talib.PLUS_DI, plus_dm),
        "minus_di": of_moves_by_range(talib.MINUS_DI, minus_dm),
    }
    # over two or three values these only tell TA-Lib's rounding
    of_five = {"correl": talib.CORREL, "beta": talib.BETA}
    return {
        **{name: one(name, of_close(function, n), n=n) for name, function in close_n.items()},
        **{name: one(name, of_range(function, n), n=n) for name, function in range_n.items()},
        **{name: one(name, of_high_low(function, n), n=n) for name, function in high_low_n.items()},
        **{name: one(name, partial(function, n=n), n=n) for name, function in directional.items()},
        **{name: one(name, of_high_low(function, max(n, 5)), n=max(n, 5)) for name, function in of_five.items()},
        "current_price": one("current_price", lambda bars: bars.close),
        "moving_average_return": one("moving_average_return", on_returns(lambda w: w.mean(axis=1), n), n=n),
        "stdev_return": one("stdev_return", on_returns(lambda w: w.std(axis=1) * np.sqrt(252), n), n=n),
        "stdev_price": one(
            "stdev_price", lambda bars: over_windows(bars.close, n, lambda w: w.std(axis=1, ddof=1)), n=n
        ),
        "max_drawdown": one("max_drawdown", lambda bars: over_windows(bars.close, n, drawdown), n=n),
        "stddev": one("stddev", of_close(talib.STDDEV, n, 1.5), n=n, deviations=1.5),
        "t3": one("t3", of_close(talib.T3, n, volume_factor), n=n, volume_factor=volume_factor),
        "ma": one("ma", of_close(talib.MA, n, int(talib.MA_Type.TEMA)), n=n, kind="tema"),
        "bbands": Reference(
            {"n": n, "upper_deviations": 2, "lower_deviations": 1.5},
            parts("upper middle lower", lambda bars: talib.BBANDS(bars.close, n, 2, 1.5)),
        ),
        "accbands": Reference(
            {"n": n},
            parts("upper middle lower", lambda bars: talib.ACCBANDS(bars.high, bars.low, bars.close, n)),
        ),
        "donchian": Reference({"n": n}, parts("upper middle lower", donchian(n))),
        "keltner": Reference(
            {"n": n, "multiplier": 1.5, "atr_n": signal}, parts("upper middle lower", keltner(n, 1.5, signal))
        ),
        "rolling_vwap": one("rolling_vwap", rolling_vwap(n), n=n),
        "macd": Reference(
            macd, parts("macd signal histogram", lambda bars: talib.MACD(bars.close, fast, slow, signal))
        ),
        "macdext": Reference(
            macd,
            parts(
                "macdext signal histogram",
                lambda bars: talib.MACDEXT(bars.close, fast, 0, slow, 0, signal, 0),
            ),
        ),
        "macdfix": Reference(
            {"signal": signal}, parts("macdfix signal histogram", lambda bars: talib.MACDFIX(bars.close, signal))
        ),
        "ppo": Reference(macd, parts("ppo signal histogram", ppo(fast, slow, signal))),
        "apo": one("apo", of_close(talib.APO, fast, slow, 0), **pair),
        "stoch": Reference(
            {"fast_k": n, "slow_k": signal, "slow_d": fast},
            parts("slow_k slow_d", lambda bars: talib.STOCH(bars.high, bars.low, bars.close, n, signal, 0, fast, 0)),
        ),
        "stochf": Reference(
            {"fast_k": n, "fast_d": signal},
            parts("fast_k fast_d", lambda bars: talib.STOCHF(bars.high, bars.low, bars.close, n, signal, 0)),
        ),
        "stochrsi": Reference(
            {"n": n, "fast_k": fast, "fast_d": signal},
            parts("fast_k fast_d", lambda bars: talib.STOCHRSI(bars.close, n, fast, signal, 0)),
        ),
        "ultosc": one("ultosc", of_range(talib.ULTOSC, short, medium, long), short=short, medium=medium, long=long),
        "aroon": Reference({"n": n}, parts("aroon_down aroon_up", lambda bars: talib.AROON(bars.high, bars.low, n))),
        "mfi": one("mfi", of_volume(talib.MFI, n), n=n),
        "imi": one("imi", lambda bars: talib.IMI(bars.open, bars.close, n), n=n),
        "ad": one("ad", of_volume(talib.AD)),
        "adosc": one("adosc", of_volume(talib.ADOSC, fast, slow), **pair),
        "obv": one("obv", lambda bars: talib.OBV(bars.close, bars.volume)),
        "trange": one("trange", of_range(talib.TRANGE)),
        "avgprice": one("avgprice", of_bar(talib.AVGPRICE)),
        "bop": one("bop", of_bar(talib.BOP)),
        "typprice": one("typprice", of_range(talib.TYPPRICE)),
        "wclprice": one("wclprice", of_range(talib.WCLPRICE)),
        "medprice": one("medprice", of_high_low(talib.MEDPRICE)),
    }
