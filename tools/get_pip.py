# SPDX-License-Identifier: GPL-3.0-or-later
"""What ansible-test runs as get-pip.py, whose host not everybody reaches: puts the pip beside it into the environment.

ansible-test makes some twenty environments, so none of them fetches a pip of its own.
"""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

# get_pip_24_2.py has its pip in get_pip_24_2/, see tools/ansible-test.
source = Path(__file__).with_suffix("")
shutil.copytree(source, sysconfig.get_path("purelib"), dirs_exist_ok=True)
wanted = [a for a in sys.argv[1:] if a not in {"--no-setuptools", "--no-wheel"}]
sys.exit(subprocess.call([sys.executable, "-m", "pip", "install", *wanted]))
