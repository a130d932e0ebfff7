"""Write the passwords file of Airflow's simple auth manager, so that none is made up and logged.

The format is that of ``airflow.api_fastapi.auth.managers.simple``: one JSON object, password by
user, which the api-server opens for reading and writing.
"""

import json
import os
import sys
from pathlib import Path

MIN_LENGTH = 12


def main() -> None:
    """Give every user of ``[core] simple_auth_manager_users`` the password of the environment."""
    password = os.environ.get("AIRFLOW_ADMIN_PASSWORD", "")
    if len(password) < MIN_LENGTH:
        sys.exit(
            f"AIRFLOW_ADMIN_PASSWORD has {len(password)} characters, expected {MIN_LENGTH} or more:"
            " set it in .env"
        )
    users = os.environ["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"].split(",")
    passwords = {user.partition(":")[0].strip(): password for user in users}
    write(Path(os.environ["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"]), passwords)


def write(path: Path, passwords: dict[str, str]) -> None:
    """Put the file in place at once, readable by its owner alone."""
    staging = path.with_name(path.name + ".new")
    staging.unlink(missing_ok=True)
    with os.fdopen(os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(passwords, file)
    staging.replace(path)


if __name__ == "__main__":
    main()
