"""Where bytes live: places, the layout of arrays in them, and the ledger that says which of them are true."""
