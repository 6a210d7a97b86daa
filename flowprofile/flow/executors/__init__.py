"""Who carries a plan out: this process, processes beside it, or a Dask cluster.

All three do the same with the same tasks through `orders.carried_out`, so the store that comes out is the same byte
for byte. Tasks travel as numbers: whoever gets one opens the definition and the store itself, asks what of that
task is still missing, writes straight into the store, and hands back nothing but what was acknowledged.
"""
