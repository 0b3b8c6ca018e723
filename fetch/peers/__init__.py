"""Daemons that share a store: who there is, which of them writes for a tenant, and how the others' writes get there.

Nothing that is promised to clients relies on any of it. Every daemon may write for every tenant at any time; if two
do, the tenant's revision makes one of them evaluate its batch again (`fetch/engine/writer.py`). What is here keeps
that from being the ordinary case.
"""
