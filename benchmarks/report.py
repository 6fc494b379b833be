"""Stage three: the figures as text, Markdown and one HTML file. All three show the same chapters; nothing is computed here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .analyse import (
    CALLS,
    Comparison,
    Document,
    comparisons,
    fastest_calls,
    losses,
    marks,
    predictions,
    scalings,
    section,
    starts,
    ways,
)
from .compare import Change
from .machine import machine_line
from .peers import BASELINE, OURS, PEERS, sklearn
from .problems import PROBLEMS
from .tables import aligned, markdown, number

Rows = list[list[str]]

REPEAT = "pip install 'fastmlp[bench]' && fastmlp bench"


@dataclass(frozen=True)
class Chapter:
    """A part of the report.

    Parameters
    ----------
    name : str
        Short, for links and for the name of its pictures.
    title : str
    text : list of str
        Paragraphs.
    table : list of list of str
        The first row is the header; empty if there is no table.
    picture : callable or None
        ``picture()``: a figure of matplotlib.
    alternative : str
        What the picture shows, for those who cannot see it.
    """

    name: str
    title: str
    text: list[str]
    table: Rows
    picture: Callable[[], Any] | None = None
    alternative: str = ""


def headline(found: Sequence[Comparison]) -> Rows:
    """A row for each problem: microseconds per step of each peer with the fastest of the numbers of threads, and ratios."""
    peers = list(dict.fromkeys(name for one in found for name in one.rivals))
    order = [name for name in PEERS if name in peers]
    header = [
        "problem",
        "network",
        "batch, optimizer",
        *order,
        f"{OURS}, 1 thread",
        OURS,
        f"{BASELINE} / {OURS}",
        f"best rival / {OURS}",
    ]
    rows = [header]
    for one in found:
        unit = one.unit
        dtype = "" if unit["dtype"] == "float32" else f", {unit['dtype']}"
        single = one.timings.get(f"{OURS}-1")
        rival = one.fastest_rival
        cells = []
        for name in order:
            timing = one.rivals.get(name)
            cells.append(number(timing.median) + ("*" if timing.nearest else "") if timing else "-")
        ratio = one.ratio(rival)
        rows.append([
            one.problem, unit["network"] + dtype, f"{unit['batch_size']}, {unit['optimizer']}", *cells,
            number(single.median if single else None), number(one.ours.median if one.ours else None),
            number(one.ratio(one.rivals.get(BASELINE))),
            "-" if rival is None or ratio is None or rival.peer == BASELINE else f"{number(ratio)} ({rival.peer})",
        ])  # fmt: skip
    return rows


def spread(found: Sequence[Comparison]) -> Rows:
    """A row for each problem and contestant: how much the rounds differ, where each ended, and what it did otherwise."""
    rows = [["problem", "contestant", "min us", "quartile", "median", "quartile", "loss", "waited", "work"]]
    for one in found:
        for name, timing in one.timings.items():
            trains = name in one.training
            work = "-" if not trains else timing.nearest or ("same" if timing.comparable else "NOT COMPARABLE")
            rows.append([
                one.problem, name, *(number(value) for value in timing.quartiles),
                "-" if timing.loss is None else f"{timing.loss:.6g}",
                "?" if timing.waiting is None else f"{timing.waiting:.0%}",
                work + (" (unstable)" if trains and timing.unstable else ""),
            ])  # fmt: skip
        rows += [[one.problem, name, *["-"] * 6, "FAILED"] for name in one.failed]
    return rows


def _whose_threads(counts: Sequence[int | str]) -> str:
    """Which numbers of threads a peer's time is the best of; "all" are, for fastmlp, as many as it chooses."""
    *others, last = map(str, counts)
    said = f"{last} thread{'s' * (last != '1')}"
    if others:
        said = f"{', '.join(others)} or {said}, whichever was fastest, found afterwards"
    return f"Each peer with {said}; fastmlp has to choose itself." if "all" in counts else f"Each peer, fastmlp, too, with {said}."


def _training(document: Document) -> Chapter | None:
    found = comparisons(document)
    if not found:
        return None
    from . import pictures

    text = [
        "Microseconds per step, gather and update included (orders of rows are made beforehand; beyond 524,288 rows fastmlp "
        f"computes its own): medians of {document['options']['rounds']} rounds in turns, in the steady state. "
        f"{_whose_threads(document['options']['threads'])}",
        "A star: the peer cannot do just this and does the nearest thing it can.",
    ]
    ratios = [ratio for one in found if (ratio := one.ratio(one.rivals.get(BASELINE))) is not None]
    rivals = [ratio for one in found if one.fastest_rival and (ratio := one.ratio(one.fastest_rival)) is not None]
    said = []
    if ratios:
        said.append(f"{number(min(ratios))} to {number(max(ratios))} times as fast as the same network in plain NumPy")
    if rivals:
        said.append(f"{number(min(rivals))} to {number(max(rivals))} times as fast as the fastest other library on each problem")
    if said:
        text.insert(0, f"fastmlp is {', and '.join(said)}.")
    return Chapter(
        "training",
        "Training",
        text,
        headline(found),
        lambda: pictures.training(found),
        "Microseconds per step of each peer, by problem",
    )


def _how_near(found: Sequence[Comparison], which: str) -> str:
    """How much two losses may differ, and on which problems."""
    problems: dict[float, list[str]] = {}
    for one in found:
        problems.setdefault(one.unit[which], []).append(one.problem)
    return ", ".join(f"{100 * tolerance:g}% ({', '.join(names)})" for tolerance, names in sorted(problems.items()))


def _same_work(document: Document) -> Chapter | None:
    trainings, estimators, text = comparisons(document), comparisons(document, "estimators"), marks(document)
    text[:0] = [*_same_trainings(trainings), *_same_estimators(estimators)]
    found = [*trainings, *estimators]
    return Chapter("work", "Same work, and how sure the times are", text, spread(found) if found else []) if text else None


def _same_trainings(found: Sequence[Comparison]) -> list[str]:
    """What is the same for all peers that train, if there are any."""
    if not found:
        return []
    # Documents of before have no losses of the first steps.
    first = [one for one in found if "first_tolerance" in one.unit]
    early = f" After its first steps, in a training on few rows, it must be within {_how_near(first, 'first_tolerance')}."
    return [
        "All begin with the same weights and take the same rows in the same order with the same constants. After three epochs the "
        "loss is computed from each peer's parameters, by the same code for all, and must be that of the reference within "
        f"{_how_near(found, 'tolerance')}, since rounding grows as training goes on.{early if first else ''} Whoever is elsewhere "
        "did not do the same work, and does not count."
    ]


def _same_estimators(found: Sequence[Comparison]) -> list[str]:
    """What is the same for both libraries' estimators, if there are any."""
    if not found:
        return []
    tolerances = ", ".join(f"{one.unit['case']} {one.unit['tolerance']:g}" for one in found)
    return [
        "Estimators, in microseconds per epoch, or iteration of L-BFGS: both have the same parameters, and from random_state the "
        "same weights to begin with; orders of rows are their own. The loss is that of what each predicts after its fit, computed "
        "by the same code for both; it may differ by what another order, or rounding where one batch holds all rows, may change "
        f"(relative: {tolerances})."
    ]


def _estimators(document: Document) -> Chapter | None:
    found = comparisons(document, "estimators")
    if not found:
        return None
    pair, partial_rows = (OURS, sklearn.PEER.name), found[0].unit["partial_rows"]
    header = ["case", "rows x columns", "what", *(f"{peer} ms" for peer in pair), " / ".join(reversed(pair))]
    rows = [[*header, *(f"{what}, {peer} us" for what in CALLS.values() for peer in pair)]]
    for one in found:
        fits = [one.best(peer) for peer in pair]
        calls = [fastest_calls(one, call) for call in CALLS]
        rows.append([
            one.unit["case"], " x ".join(f"{count:,}" for count in one.unit["shape"] or ()), one.unit["what"],
            *(number(fit and fit.median / 1e3) for fit in fits), number(one.ratio(fits[1])),
            *(number(of_call.get(peer)) for of_call in calls for peer in pair),
        ])  # fmt: skip
    text = [
        "What a person sees who puts fastmlp's MLPClassifier or MLPRegressor in the place of scikit-learn's. First milliseconds of "
        "fit, from its checks to its end, divided by its epochs, or iterations of L-BFGS; then microseconds of predict, of one row "
        f"and of all, and of partial_fit of {partial_rows} rows. The rows are float64. Parameters that are not shown are the "
        "defaults, but that no fit ends before its last epoch. Medians of rounds in turns. scikit-learn counts with the fastest of "
        "the numbers of threads that its BLAS was given, for each figure; fastmlp has to choose itself."
    ]
    return Chapter("estimators", "Estimators", text, rows)


def _quality(document: Document) -> Chapter | None:
    goals = section(document, "quality")
    if not goals:
        return None
    from . import pictures

    rows = [["goal", "peer", "epochs", "training s", "import, compilation s", "together s", "reached"]]
    text = []
    for goal in goals:
        text.append(
            f"{goal['goal']}: {goal['network']}, {goal['rows']:,} rows, of which {goal['held_out']:.0%} are held out, batch "
            f"{goal['batch_size']}, {goal['optimizer']}; training ends after the first epoch with {goal['metric']} "
            f"{'of at least' if goal['metric'] == 'accuracy' else 'of at most'} {goal['target']:g} on the held-out rows."
        )
        for way in sorted(ways(goal), key=lambda way: (not way.reached, way.ready + way.training)):
            values = [value for _, value in way.points]
            best = max(values) if goal["metric"] == "accuracy" else min(values)
            rows.append([
                goal["goal"], way.peer + ("*" if way.nearest else ""), str(way.epochs), number(way.training), number(way.ready),
                number(way.ready + way.training), "yes" if way.reached else f"no: {best:.4g}",
            ])  # fmt: skip
    kept = "fastmlp and torch.compile find theirs on the disk; JAX and Keras, which keep none unless they are told to, compile."
    if all(goal.get("kernels_are_kept") for goal in goals):  # an earlier version did not have JAX keep any
        kept = "fastmlp, torch.compile, JAX and Keras find on the disk what an earlier training has compiled."
    text.append(
        "The second column of seconds is what comes before training runs at its own pace: import of the library, compilation or "
        f"loading of kernels. {kept} fastmlp's own modules are there before the clock starts, because its reference judges; "
        "numba is not. With all threads. A star: not the same network (LightGBM grows trees: ten rounds of boosting for an "
        "epoch)."
    )
    return Chapter(
        "quality", "Time to quality", text, rows, lambda: pictures.quality(goals), "Quality on held-out rows over seconds"
    )


def _absent(document: Document) -> str:
    """Who has trained but does not predict."""
    trained, predict = (
        {one["peer"] for unit in section(document, name) for one in unit["contestants"].values()}
        for name in ("training", "inference")
    )
    absent = [PEERS[name].description for name in PEERS if name in trained - predict]
    return f" Not measured: {'; '.join(absent)}." if absent else ""


def _inference(document: Document) -> Chapter | None:
    units = section(document, "inference")
    if not units:
        return None
    from . import pictures

    rows = [["network", "contestant", "one row us", "p99 us", f"{units[0]['rows']} rows us", "million rows/s", "outputs"]]
    for unit in units:
        for one in predictions(unit):
            same = "-" if not one.trains else "same" if one.comparable else "not comparable"
            rate = unit["rows"] / one.many if one.trains else None
            rows.append([
                unit["network"], one.name, number(one.median), number(one.p99), number(one.many), number(rate), same,
            ])  # fmt: skip
    text = [
        f"One row: median and 99th percentile of {units[0]['calls']:,} calls, from NumPy to NumPy. Outputs are compared with "
        f"the reference's; scikit-learn's are not comparable where it has no such last layer.{_absent(document)}"
    ]
    return Chapter("inference", "Inference", text, rows, lambda: pictures.inference(units), "Microseconds of a prediction, by peer")


def _cold(document: Document) -> Chapter | None:
    found = starts(document)
    if not found:
        return None
    from . import pictures

    rows = [["peer", "import s", "first fit, empty cache s", "first fit, full cache s", "steady epoch ms", "peak memory MiB"]]
    rows += [
        [one.peer, number(one.import_), number(one.first_cold), number(one.first_warm), number(1e3 * one.epoch),
         number(one.peak / 2**20 if one.peak else None)]
        for one in found
    ]  # fmt: skip
    text = [
        "Four times that are never mixed, for an epoch of higgs (10,000 rows): importing the library, the first epoch with an "
        "empty cache of compiled kernels (of one process), the first with a full one (medians of some, as are the others), and an "
        "epoch of the steady state. Memory is the most that the process has had, as the system counts it; null shows what "
        "Python, NumPy and the data take."
    ]
    return Chapter(
        "cold", "Cold start and memory", text, rows, lambda: pictures.cold(found), "Seconds until the first fit, and memory"
    )


def _kernels(document: Document) -> Chapter | None:
    units = section(document, "kernels")
    if not units:
        return None
    from . import pictures

    names = list(dict.fromkeys(name for unit in units for name in unit["parts"]))
    rows = [["problem", "tile GFLOP/s", "us, 1 thread", "of the tile", "us", "of all tiles", *names, "rest"]]
    for unit in units:
        flop, tile = unit["flop_per_step"], unit["tile"]
        shares = [unit["parts"][name] / unit["one_thread"] for name in names] if unit["parts"] else []
        rows.append([
            unit["problem"], number(tile / 1e9), number(1e6 * unit["one_thread"]), f"{flop / unit['one_thread'] / tile:.0%}",
            number(1e6 * unit["chosen"]), f"{flop / unit['chosen'] / tile / unit['cores']:.0%}",
            *([f"{share:.0%}" for share in shares] or ["-"] * len(names)), f"{1 - sum(shares):.0%}" if shares else "-",
        ])  # fmt: skip
    text = [
        "How near a step comes to the rate at which the register tile multiplies when all is in the first-level cache, on "
        "one core and on "
        "all; and where a step's time on one core goes. Parts are measured on data that is in the cache: the rest is what "
        "waits for memory "
        "in a real training, and what is between the parts."
    ]
    return Chapter(
        "kernels", "Roofline and kernels", text, rows, lambda: pictures.kernels(units), "Shares of a step's kernels, by problem"
    )


def _scaling(document: Document) -> Chapter | None:
    found = scalings(document)
    if not found:
        return None
    from . import pictures

    peers = [name for name in PEERS if any(curve.peer == name for one in found for curve in one.curves)]
    rows = [["axis", "value", *(f"{name} us" for name in peers), "tile's floor us"]]
    for one in found:
        by_peer = {curve.peer: dict(curve.points) for curve in one.curves}
        for value, floor in one.floor:
            rows.append([one.axis, f"{value:,}", *(number(by_peer.get(name, {}).get(value)) for name in peers), number(floor)])
    text = [
        "Microseconds of a step, or of an epoch where rows grow, with all threads, of which fastmlp chooses how many to use; along "
        "the axes of threads all peers, fastmlp, too, have as many as the row says. The floor is the time that the register tile "
        "would take for the products on all cores: the roof of the roofline."
    ]
    return Chapter(
        "scaling", "Scaling", text, rows, lambda: pictures.scaling(found), "Time over rows, width, batch, depth and threads"
    )


def _lost(document: Document) -> Chapter | None:
    if OURS not in document["options"]["peers"]:
        return None
    found = losses(document)
    rows = [["where", "peer", OURS, "peer's", "unit", f"peer / {OURS}"]]
    rows += [[one.where, one.peer, number(one.ours), number(one.theirs), one.unit, number(one.ratio)] for one in found]
    text = [
        "Every figure of this report that a peer has better than fastmlp, or within 10%, the worst first. Below 1 the peer "
        "is ahead."
    ]
    if not found:
        text.append("In this run there is none.")
    return Chapter("lost", "Where we lose", text, rows if found else [])


def _peers(document: Document) -> Chapter:
    rows = [["peer", "what it is", "what was done for it to be at its best"]]
    rows += [[name, PEERS[name].description, PEERS[name].tuned] for name in document["options"]["peers"] if name in PEERS]
    text = [
        f"Left out: {name}, because {', '.join(packages)} {'is' if len(packages) == 1 else 'are'} not installed (pip install "
        "'fastmlp[bench]')."
        for name, packages in document["missing"].items()
    ]
    return Chapter("peers", "Who took part", text, rows)


def _machine(document: Document) -> Chapter:
    about = document["machine"]
    library = about["blas"]
    moments = [moment for unit in document["units"].values() for moment in unit["conditions"]]
    loads = [moment["load"] for moment in moments if moment["load"] is not None]
    clocks = [moment["megahertz"] for moment in moments if moment["megahertz"] is not None]
    tiles = [moment["tile"]["float32"] / 1e9 for moment in moments]

    def span(values: list[float]) -> str:
        return f"{number(min(values))} to {number(max(values))}" if values else "unknown"

    rows = [["what", "value"]]
    rows += [
        ["processor", f"{about['cpu']}, {about['cores']} cores; kernels compiled for {about['architecture']}"],
        ["features", ", ".join(about["features"])],
        ["caches", ", ".join(f"{name} {size}" for name, size in about["caches"].items()) or "unknown"],
        ["memory", f"{about['memory_bytes'] / 2**30:.0f} GiB" if about["memory_bytes"] else "unknown"],
        ["governor", about["governor"] or "unknown"],
        ["system", f"{about['system']}, {about['release']}"],
        ["Python", about["python"]],
        ["BLAS of NumPy", f"{library['name']} {library['version']}, {library['threads'] or '?'} threads"],
        ["libraries", ", ".join(f"{name} {version}" for name, version in about["versions"].items())],
        ["commit", about["commit"] or "unknown"],
        ["measured", f"{document['began']} to {document['ended'] or 'interrupted'}"],
        ["load average", span(loads)],
        ["clock, MHz", span(clocks)],
        ["register tile, one core, GFLOP/s", span(tiles)],
    ]
    return Chapter("machine", "The machine", [], rows)


def _as_options(options: dict[str, Any]) -> str:
    """What makes another run measure the same: all that is not there unless it is said."""
    from .run import SECTIONS

    said = ["--quick"] if options["quick"] else []
    said += [f"--rounds {options['rounds']}", f"--threads {','.join(map(str, options['threads']))}"]
    for name, every in (("problems", PROBLEMS), ("peers", PEERS), ("sections", SECTIONS)):
        if options[name] and (options["quick"] or set(options[name]) != set(every)):
            said.append(f"--{name} {','.join(options[name])}")
    return " ".join(said)


def _repeat(document: Document) -> Chapter:
    options = document["options"]
    text = [
        f"{REPEAT} {_as_options(options)} --json mine.json --html mine.html",
        f"This report: problems {', '.join(options['problems'])}; threads {', '.join(map(str, options['threads']))}; "
        f"{options['rounds']} rounds{'; --quick' if options['quick'] else ''}. Each contestant has a process of its own, "
        "bound to as many processors as it has threads; the contestants take turns round by round; the first three "
        "epochs, and some milliseconds before each round, are not timed.",
        "To see what has changed since: --compare old.json.",
    ]
    return Chapter("repeat", "How to repeat this", text, [])


def chapters(document: Document) -> list[Chapter]:
    """All that there is to say of what has been measured."""
    makers = (
        _training, _lost, _quality, _estimators, _scaling, _inference, _cold, _kernels, _same_work, _peers, _machine, _repeat,
    )  # fmt: skip
    return [chapter for make in makers if (chapter := make(document)) is not None]


def text_report(document: Document) -> str:
    """For a terminal."""
    parts = [machine_line(document["machine"])]
    for chapter in chapters(document):
        if chapter.name in ("peers", "machine", "repeat"):
            parts += chapter.text if chapter.name == "peers" else []
            continue
        parts += ["", f"== {chapter.title} ==", *chapter.text]
        if chapter.table:
            parts += ["", aligned(chapter.table)]
    return "\n".join(parts)


def markdown_report(document: Document) -> str:
    """For GitHub and the like; without pictures, which would be files of their own."""
    parts = ["# fastmlp: benchmark report", "", machine_line(document["machine"])]
    for chapter in chapters(document):
        parts += ["", f"## {chapter.title}"]
        for paragraph in chapter.text:
            parts += ["", f"    {paragraph}" if paragraph.startswith("pip ") else paragraph]
        if chapter.table:
            parts += ["", markdown(chapter.table)]
    return "\n".join(parts) + "\n"


def html_report(document: Document) -> str:
    """One file with everything in it."""
    import jinja2

    from .pictures import svg

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__, "."), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    shown = chapters(document)
    drawn = {chapter.name: svg(chapter.picture(), chapter.name) for chapter in shown if chapter.picture}
    return environment.get_template("template.html").render(
        chapters=shown,
        pictures=drawn,
        machine=machine_line(document["machine"]),
        options=document["options"],
        began=document["began"],
    )


def readme_table(document: Document) -> str:
    """The short table of the README."""
    rows = [
        [
            "problem",
            "network",
            "batch, optimizer",
            "NumPy",
            "fastest other library",
            "fastmlp, 1 thread",
            "fastmlp",
            "NumPy / fastmlp",
            "other / fastmlp",
        ]
    ]
    for one in comparisons(document):
        unit = one.unit
        rival, baseline, single = one.fastest_rival, one.rivals.get(BASELINE), one.timings.get(f"{OURS}-1")
        rows.append([
            one.problem, unit["network"] + ("" if unit["dtype"] == "float32" else f", {unit['dtype']}"),
            f"{unit['batch_size']}, {unit['optimizer']}", number(baseline.median if baseline else None),
            f"{number(rival.median)} ({rival.peer})" if rival else "-", number(single.median if single else None),
            number(one.ours.median if one.ours else None), number(one.ratio(baseline)), number(one.ratio(rival)),
        ])  # fmt: skip
    return f"{machine_line(document['machine'])}. Microseconds per step.\n\n{markdown(rows)}"


README_MARKS = ("<!-- speed -->\n", "\n<!-- /speed -->")


def with_table(readme: str, table: str) -> str:
    """The README with another table between its marks."""
    before, _, rest = readme.partition(README_MARKS[0])
    _, end, after = rest.partition(README_MARKS[1])
    if not end:
        raise ValueError(
            f"There is no place for a table: the file must hold {README_MARKS[0].strip()} and {README_MARKS[1].strip()}."
        )
    return f"{before}{README_MARKS[0]}{table}{end}{after}"


def comparison_report(changes: Sequence[Change]) -> str:
    """What ``--compare`` prints."""
    rows = [["problem", "contestant", "before us", "after us", "cost after / before", "between", "verdict"]]
    rows += [
        [
            one.where,
            one.name,
            number(one.before),
            number(one.after),
            f"{one.ratio:.3f}",
            f"{one.low:.3f} to {one.high:.3f} ({one.between})",
            one.verdict,
        ]
        for one in changes
    ]
    return aligned(rows)
