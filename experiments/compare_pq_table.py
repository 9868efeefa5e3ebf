"""The table of `experiments.compare_pq`, and its bootstrap."""

from __future__ import annotations

from typing import Any

import numpy as np


def table(results: dict[str, Any]) -> str:
    """Means over seeds, size against quality; then the differences between arms with their intervals."""
    teacher = results["teacher"]
    count = len(results["rows"][0]["per_picture"]["kl"])
    error = 100 * np.sqrt(teacher["top1"] * (1 - teacher["top1"]) / count)
    lines = [
        f"teacher: {teacher['bytes']} bytes in float32, top-1 {100 * teacher['top1']:.1f} % "
        f"of {count} pictures (standard error {error:.1f})",
        f"settings: {results['settings']}",
        "",
        f"{'plan':8} {'arm':8} seeds {'bytes':>9} {'ratio':>6} {'KL':>14} {'agreement':>14} {'top-1':>7}",
    ]
    groups: dict[tuple[str, str], list[Any]] = {}
    for row in results["rows"]:
        groups.setdefault((row["plan"], row["arm"]), []).append(row)
    for (plan, arm), rows in sorted(groups.items(), key=lambda item: (-item[1][0]["formula_bytes"], item[0])):
        size = rows[0]["formula_bytes"]
        kl, agreement, top1 = ([row[name] for row in rows] for name in ("kl", "agreement", "top1"))
        lines.append(
            f"{plan:8} {arm:8} {len(rows):5} {size:9.0f} {teacher['bytes'] / size:6.2f} "
            f"{np.mean(kl):7.4f} +-{np.std(kl):5.4f} {100 * np.mean(agreement):7.1f} +-{100 * np.std(agreement):4.1f} "
            f"{100 * np.mean(top1):7.1f}"
        )
    lines += [
        "",
        "Differences, mean over seeds, with 95 % intervals of a paired bootstrap over the pictures:",
    ]
    for plan in sorted({plan for plan, _ in groups}):
        for first, second in (("B", "A"), ("D", "C"), ("D", "B"), ("B", "F"), ("D", "F"), ("D", "F tuned")):
            if (plan, first) in groups and (plan, second) in groups:
                lines.append(_difference(plan, first, second, groups))
    files = [row for row in results["rows"] if "file_bytes" in row]
    if files:
        worst = max(abs(r["file_bytes"] - r["header_bytes"] - r["formula_bytes"]) for r in files)
        headers = [row["header_bytes"] for row in files]
        equal = sum(row["logits_after_loading_equal"] for row in files)
        lines += [
            "",
            f"files: formula and header to {worst:.1f} bytes; header {min(headers)}..{max(headers)} bytes; "
            f"logits after loading equal in {equal} of {len(files)}",
        ]
    return "\n".join(lines) + "\n"


def _difference(plan: str, first: str, second: str, groups: dict[tuple[str, str], list[Any]]) -> str:
    parts = [f"{plan:8} {first} - {second}:"]
    for label, name, scale in (("KL", "kl", 1.0), ("agreement", "agrees", 100.0), ("top-1", "right", 100.0)):
        a, b = (scale * _per_picture(groups[plan, arm], name) for arm in (first, second))
        low, high = interval(a - b)
        parts.append(f"{label} {np.mean(a - b):+.4g} [{low:+.4g}, {high:+.4g}]")
    return "  ".join(parts)


def _per_picture(rows: list[Any], name: str) -> np.ndarray:
    """Means over seeds, `[pictures]`."""
    return np.mean([[float(value) for value in row["per_picture"][name]] for row in rows], axis=0)


def interval(differences: np.ndarray, *, draws: int = 10_000) -> tuple[float, float]:
    """The 2.5 and 97.5 per cent points of the mean of pictures drawn with replacement."""
    rng = np.random.default_rng(0)
    means = [float(np.mean(rng.choice(differences, differences.size))) for _ in range(draws)]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
