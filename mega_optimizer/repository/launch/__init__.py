"""Launch sites: the commands that start a service, and where they are written."""

from mega_optimizer.repository.launch.command import Launch, parse_command
from mega_optimizer.repository.launch.container import dockerfile_launch
from mega_optimizer.repository.launch.files import (
    procfile_launch,
    shell_launch,
    supervisor_launch,
    words_launch,
)
from mega_optimizer.repository.launch.python import python_launch

__all__ = [
    "Launch",
    "dockerfile_launch",
    "parse_command",
    "procfile_launch",
    "python_launch",
    "shell_launch",
    "supervisor_launch",
    "words_launch",
]
