"""Lightning modules, callbacks, and the command line. Importing this imports nothing else, so that
help and `ditflow bank` answer at once.
"""
