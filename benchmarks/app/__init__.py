"""How fast a panel of the interface answers, beside the same view in Gradio; run by ``python -m benchmarks app``."""
