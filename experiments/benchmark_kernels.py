"""Which kernels of a traced program take longest, and the JAX operations that they come from."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Any


def top_kernels(trace: dict[str, Any], *, module: str, steps: int, top: int = 10) -> list[dict[str, Any]]:
    """The kernels that took longest in a trace as `jax.profiler` writes it (the parsed `*.trace.json.gz`).

    On a CPU these are the operations of the compiled `module`. Each is given with the names of its HLO
    operations, its time and calls per step (the trace holds `steps`), and its share of all kernels' time. Time
    spent in others that run inside (a `while` holds its body) is not counted twice.
    """
    events = trace["traceEvents"]
    named = [e for e in events if e.get("ph") == "M" and e["name"] in ("process_name", "thread_name")]
    names = {(e["name"], e["pid"], e.get("tid")): e["args"]["name"] for e in named}
    # GPU kernels lie on streams, TPU operations on a line of their own; a CPU marks them by `hlo_op` only.
    lines = {
        (pid, tid)
        for (kind, pid, tid), name in names.items()
        if kind == "thread_name"
        and "/device:" in names.get(("process_name", pid, None), "")
        and (name.startswith("Stream") or name == "XLA Ops")
    }
    threads = defaultdict(list)
    for event in events:
        if event.get("ph") != "X":
            continue
        arguments = event.get("args", {})
        on_host = "hlo_op" in arguments and arguments.get("hlo_module") == module
        if (event["pid"], event["tid"]) in lines if lines else on_host:
            threads[event["pid"], event["tid"]].append(event)
    time_of: dict[str, float] = defaultdict(float)
    calls: dict[str, int] = defaultdict(int)
    operations: dict[str, set[str]] = defaultdict(set)
    for thread in threads.values():
        for event, own in _own_times(thread):
            time_of[event["name"]] += own
            calls[event["name"]] += 1
            operations[event["name"]].add(event.get("args", {}).get("hlo_op", event["name"]))
    total = sum(time_of.values())
    order = sorted(time_of, key=lambda name: -time_of[name])[:top]
    return [
        {
            "kernel": name,
            "hlo": sorted(operations[name]),
            "ms_per_step": time_of[name] / 1e3 / steps,
            "calls_per_step": calls[name] / steps,
            "share": time_of[name] / total,
        }
        for name in order
    ]


def _own_times(thread: list[dict[str, Any]]) -> Iterable[tuple[dict[str, Any], float]]:
    """Each event with its duration less that of the events inside it."""
    own = [event["dur"] for event in thread]
    around: list[int] = []
    for i in sorted(range(len(thread)), key=lambda i: (thread[i]["ts"], -thread[i]["dur"])):
        while around and thread[around[-1]]["ts"] + thread[around[-1]]["dur"] <= thread[i]["ts"]:
            around.pop()
        if around:
            own[around[-1]] -= thread[i]["dur"]
        around.append(i)
    return zip(thread, own, strict=True)


def origins(hlo: str | None) -> dict[str, str]:
    """Names of operations in optimised HLO text, with the path of the JAX operation that they come from.

    Where the compiler dropped that, it is the type of the result, which mostly tells the layer.
    """
    pattern = re.compile(r'^\s*(?:ROOT )?%?([\w.-]+) = (\S+) (?:.*op_name="([^"]*)")?', re.MULTILINE)
    return {name: path or kind for name, kind, path in pattern.findall(hlo or "")}
