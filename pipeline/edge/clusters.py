"""The index of a large catalogue: its rows in clusters, of which a device looks into the nearest.

An inverted file as in Jégou et al. 2011, "Product quantization for nearest neighbor search", without the product: rows
are int8 already, and the clusters are looked into exactly.
"""

from __future__ import annotations

import numpy as np

from adclick.serving.edge.catalogue import ROWS_AT_ONCE, Catalogue, Clusters

#: So many clusters as this times the root of the rows: then centroids and rows cost about the same to look at.
_CLUSTERS_PER_ROOT = 4.0
_SAMPLE_ROWS_PER_CLUSTER = 50
_SEED = 1


def with_clusters(catalogue: Catalogue, least_rows: int = ROWS_AT_ONCE) -> Catalogue:
    """A catalogue in the order of its clusters; a small one, in which nothing is to be gained, as it is.

    Args:
        catalogue: The creatives.
        least_rows: The largest catalogue that is left as it is.
    """
    count = len(catalogue.creatives)
    if count <= least_rows:
        return catalogue
    from sklearn.cluster import MiniBatchKMeans

    rows = catalogue.embeddings.astype(np.float32) * catalogue.scales[:, None]
    clusters = int(_CLUSTERS_PER_ROOT * np.sqrt(count))
    sample = np.random.default_rng(_SEED).permutation(count)[: clusters * _SAMPLE_ROWS_PER_CLUSTER]
    fitted = MiniBatchKMeans(
        clusters, init="random", random_state=_SEED, batch_size=8_192, n_init=1, max_iter=10, reassignment_ratio=0.0
    ).fit(rows[np.sort(sample)])
    centroids = fitted.cluster_centers_ / np.linalg.norm(fitted.cluster_centers_, axis=1, keepdims=True)
    # By the cosine, as they are looked for.
    nearest = np.concatenate(
        [(rows[begin : begin + ROWS_AT_ONCE] @ centroids.T).argmax(axis=1) for begin in range(0, count, ROWS_AT_ONCE)]
    )
    order = np.argsort(nearest, kind="stable")
    starts = np.searchsorted(nearest[order], np.arange(clusters + 1)).astype(np.int32)
    return Catalogue(
        tuple(catalogue.creatives[row] for row in order),
        np.ascontiguousarray(catalogue.embeddings[order]),
        np.ascontiguousarray(catalogue.scales[order]),
        Clusters(centroids.astype(np.float32), starts),
    )
