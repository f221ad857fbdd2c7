"""Work spread over the workers of a Ray cluster; nothing else in tsdi imports ray."""

from tsdi.cluster.cluster import Cluster

__all__ = ["Cluster"]
