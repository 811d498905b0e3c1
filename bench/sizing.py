"""How many nodes: hit ratios and traffic of stores for 10^9 pictures whose popularity follows a Zipf law.

Caches are computed by Che's approximation: an LRU cache forgets what has not been requested for its characteristic
time, after which it is just full (Che, Tung and Wang, 2002). A simulated LRU cache checks it.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
#: ranks that stand for themselves; further ones are grouped in bins that grow by a constant factor
_EXACT, _BINS = 10_000, 4_000
_DAY_S = 86_400.0


@dataclass(frozen=True)
class Popularity:
    """Renditions in groups of equal popularity.

    :param counts: renditions of each group
    :param shares: part of all requests that is for one rendition of the group
    """

    counts: Numbers
    shares: Numbers

    @classmethod
    def zipf(cls, renditions: int, exponent: float) -> Popularity:
        """Return the popularity under a Zipf law: the rendition of rank r has a share like r ** -exponent."""
        exact = np.arange(1, min(renditions, _EXACT) + 1, dtype=float)
        edges = np.unique(np.floor(np.geomspace(_EXACT, renditions, _BINS + 1))) if renditions > _EXACT else exact[-1:]
        counts = np.concatenate([np.ones_like(exact), np.diff(edges)])
        middles = np.concatenate([exact, np.sqrt(edges[:-1] * edges[1:])])
        weights = middles**-exponent
        return cls(counts, weights / float((counts * weights).sum()))

    def mean(self, values: Numbers) -> float:
        """Return the mean of a value of each group over all requests."""
        return float((self.counts * self.shares * values).sum())


def lru_hits(popularity: Popularity, rate: float, capacity: float) -> Numbers:
    """Return for each group which part of its requests an LRU cache answers.

    :param rate: requests to the cache in a second
    :param capacity: in renditions
    """
    if capacity >= popularity.counts.sum():
        return np.ones_like(popularity.counts)
    low, high = 0.0, 1.0

    def held(seconds: float) -> float:
        return float((popularity.counts * -np.expm1(-popularity.shares * rate * seconds)).sum())

    while held(high) < capacity:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if held(middle) < capacity else (low, middle)
    return np.asarray(-np.expm1(-popularity.shares * rate * high))


def simulated_lru(popularity: Popularity, capacity: int, requests: int, seed: int = 1) -> float:
    """Return the hit ratio of an LRU cache that random requests have filled; each group has one rendition."""
    drawn = np.random.default_rng(seed).choice(len(popularity.shares), requests, p=popularity.shares)
    cache: OrderedDict[int, None] = OrderedDict()
    hits = 0
    for number, rendition in enumerate(drawn.tolist()):
        if rendition in cache:
            cache.move_to_end(rendition)
            hits += number >= requests // 2
            continue
        cache[rendition] = None
        if len(cache) > capacity:
            cache.popitem(last=False)
    return hits / (requests - requests // 2)


@dataclass(frozen=True)
class Cluster:
    """Nodes over one store.

    :param rate: requests of each node in a second
    :param memory: renditions in the memory of a process
    :param disk: renditions on the disk of a node
    :param lifetime_days: of a rendition in the cache container
    :param is_hashed: whether all requests for an image go to one node
    """

    nodes: int
    rate: float = 1_000.0
    memory: int = 13_000
    disk: int = 2_500_000
    lifetime_days: float = 30.0
    is_hashed: bool = True


@dataclass(frozen=True)
class Load:
    """Which layer answers which part of the requests, and what that costs the store.

    :param lookups: in the cache container in a second
    :param renders: in a second, each with a read of an original
    """

    memory: float
    disk: float
    container: float
    rendered: float
    lookups: float
    renders: float


def load_of(cluster: Cluster, popularity: Popularity) -> Load:
    """Return what each layer of a cluster answers in the long run."""
    total = cluster.rate * cluster.nodes
    # With a hash each node has its own images, so that the caches of all nodes are one; without, each has all of them.
    rate, factor = (total, cluster.nodes) if cluster.is_hashed else (cluster.rate, 1)
    memory = lru_hits(popularity, rate, cluster.memory * factor)
    disk = np.maximum(memory, lru_hits(popularity, rate, cluster.disk * factor))
    expected = popularity.shares * total * cluster.lifetime_days * _DAY_S
    # It is rendered once, holds for its lifetime, and is rendered again with the next request.
    container = np.maximum(disk, expected / (1 + expected))
    shares = [popularity.mean(values) for values in (memory, disk, container)]
    missed = [max(0.0, 1 - share) for share in shares[1:]]
    return Load(
        memory=shares[0],
        disk=shares[1] - shares[0],
        container=shares[2] - shares[1],
        rendered=missed[1],
        lookups=total * missed[0],
        renders=total * missed[1],
    )
