"""The interface: a profile in a browser, and what the browser is told."""
