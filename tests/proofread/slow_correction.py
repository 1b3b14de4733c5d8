"""The same as `corrected`, slowly: sets, and no shortcuts."""

from __future__ import annotations

import numpy as np


def slow_corrected(graph, base, constraints) -> np.ndarray:
    nodes = graph.nodes
    must = [tuple(pair) for pair in constraints.must.tolist()]
    cannot = {frozenset(pair) for pair in constraints.cannot.tolist()}
    locked = {fragment: group for group, fragment in constraints.locked.tolist()}
    deleted = set(constraints.deleted.tolist())
    chains = [(group, fragment) for fragment, group in sorted(locked.items(), key=lambda item: (item[1], item[0]))]
    demanded = [pair for pair in chains + must if pair[0] != pair[1]]
    segments = {}
    for fragment in range(1, nodes + 1):
        if base[fragment]:
            segments.setdefault(int(base[fragment]), set()).add(fragment)
    groups = joined([set(s) for s in segments.values()], demanded)
    table = np.zeros(nodes + 1, np.uint64)
    for group in groups:
        for part in (
            [group]
            if untouched(group, cannot, locked, deleted)
            else regroup(graph, base, group, demanded, cannot, locked, deleted)
        ):
            name = max(part, key=lambda f: (graph.sizes[f], -f))
            for fragment in part:
                table[fragment] = name
    table[sorted(deleted)] = 0
    return table


def joined(groups: list[set[int]], pairs) -> list[set[int]]:
    for u, v in pairs:
        a = next((g for g in groups if u in g), None)
        b = next((g for g in groups if v in g), None)
        if a is not None and b is not None and a is not b:
            a |= b
            groups.remove(b)
    return groups


def untouched(group, cannot, locked, deleted) -> bool:
    return not (any(pair <= group for pair in cannot) or group & set(locked) or group & deleted)


def regroup(graph, base, group, demanded, cannot, locked, deleted) -> list[set[int]]:
    parts = [{f} for f in sorted(group)]
    edges = [
        (u, v, mean)
        for (u, v), mean in zip(graph.edges.tolist(), graph.mean.tolist(), strict=True)
        if u in group and v in group and base[u] == base[v]
    ]
    pairs = [pair for pair in demanded if pair[0] in group and pair[1] in group]
    pairs += [(u, v) for u, v, _ in sorted(edges, key=lambda edge: -edge[2])]
    whole = joined([{f} for f in sorted(group)], [(u, v) for u, v, _ in edges])
    leads: dict[int, int] = {}
    for part in sorted(whole, key=lambda p: (int(base[min(p)]), min(p))):
        lead = leads.setdefault(int(base[min(part)]), min(part))
        if lead != min(part):
            pairs.append((lead, min(part)))
    for u, v in pairs:
        a = next(p for p in parts if u in p)
        b = next(p for p in parts if v in p)
        apart = any(frozenset((i, j)) in cannot for i in a for j in b) if a is not b else True
        if apart or locked.get(u) != locked.get(v) or u in deleted or v in deleted:
            continue
        a |= b
        parts.remove(b)
    return parts
