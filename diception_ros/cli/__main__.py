# SPDX-License-Identifier: Apache-2.0
"""`python -m diception_ros.cli`, the same as the console script `diception`."""

from diception_ros.cli import main

if __name__ == "__main__":
    main()
