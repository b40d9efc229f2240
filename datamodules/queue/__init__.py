"""Who works on what: leases, plans and records shared by any number of processes. Read
`work_queue.py` first.
"""
