"""Unmodified programs: a process tree under a seccomp filter, with the monitor injected at every exec.

:mod:`swsgx.supervisor.run` starts a program and says how it ended. Who is who:

========== ======================================================================================================
front      the process that the user started. Passes signals on, stops and ends as the program does
supervisor its child: owns the seccomp listener, injects at every exec, adopts orphans
target     the supervisor's child: the program. Everything it starts is a target too
========== ======================================================================================================

If the supervisor dies, the front kills the tree; if the front dies, the supervisor does.
"""
