"""Keeping a store: smaller, tidier, together with another, or somewhere else.

A store is a cache that knows what it holds. Whatever is dropped can be computed again by the definition that asked for
it, so every verb here may be interrupted and repeated, and none of them can make a wrong number.
"""
