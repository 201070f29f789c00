"""What ``pyflow-session`` does, a module for each thing that its commands are for.

Each has a function ``add_to(commands)``, which adds its commands to the parser with the function that runs them:
``options.do(options, console)`` returns the exit status.
"""
