"""Policy files: three syntaxes that administrators know, checked when they are loaded, and compiled for fast answers.

Type enforcement (``te.py``) judges subjects, files and enclaves by their types; identity (``identity.py``) judges an
enclave by what it is and who signed it; integrity (``integrity.py``) says what is measured and appraised. ``load.py``
reads files of all three together. Nothing here touches a process or a driver. ``docs/policy.md`` is the reference.
"""
