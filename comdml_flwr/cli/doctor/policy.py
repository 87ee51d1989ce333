"""What this machine's owner lets its node take part in: whether it can be read, and allows the run."""

import stat
from pathlib import Path

from comdml_flwr.cli.doctor.findings import Finding
from comdml_flwr.core.config import RunConfig
from comdml_flwr.core.errors import InputError
from comdml_flwr.core.typed_json import Json

CHECK = "policy"


def check_policy(path: Path, config: RunConfig, *, has_certificates: bool) -> Finding:
    """Look at the file that `policy` is to name in the node configuration.

    Parameters
    ----------
    path : Path
        Of the file.
    config : RunConfig
        Of the run in which the machine is to take part.
    has_certificates : bool
        Whether the node has certificates for mail from peer to peer.
    """
    from comdml_flwr.flower.clientapp.policy import policy_of

    try:
        policy = policy_of({"policy": str(path)})
    except InputError as error:
        return Finding(CHECK, "wrong", str(error), f"correct {path}")
    if path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return Finding(CHECK, "warning", f"others than its owner may write {path}", f"chmod go-w {path}")
    try:
        policy.check_method(config.method)
        policy.check_data(config.dataset)
        if config.carrier == "direct":
            policy.check_direct(has_certificates=has_certificates)
    except InputError as error:
        mend = f"another run (--set KEY=VALUE), or correct {path}"
        return Finding(CHECK, "wrong", f"the run is refused: {error}", mend)
    facts: dict[str, Json] = {
        "allowed_methods": list(policy.allowed_methods),
        "allowed_data": list(policy.allowed_data),
        "sealed_only": policy.sealed_only,
        "min_members": policy.min_members,
        "revoked": policy.revoked.num_entries,
    }
    methods, data = (", ".join(names) or "all" for names in (policy.allowed_methods, policy.allowed_data))
    mail = "sealed mail only" if policy.sealed_only else "open mail, too"
    says = (
        f"methods: {methods}; data: {data}; {mail}; at least {policy.min_members} members;"
        f" {facts['revoked']} revoked"
    )
    return Finding(CHECK, "ok", says, facts=facts)
