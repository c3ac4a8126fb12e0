"""Decides whether a run may start, for `tunetrail plan`, for every run before it starts and for each job of a sweep.

Predicts the run, asks Axolotl and lm-eval's checkers whether they accept its config, and applies the rules to the facts.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunetrail import UserError
from tunetrail.config import inputs
from tunetrail.evaluation import instructions
from tunetrail.plan import acceptance, device, prediction, table
from tunetrail.plan.estimate.known import NotKnown
from tunetrail.plan.facts import Facts
from tunetrail.plan.rules import judge
from tunetrail.plan.rules.finding import Finding


@dataclass(frozen=True)
class Plan:
    """The composed `values`, their `facts` and `findings`. `unknown` says why there are no facts, "" if there are."""

    values: dict[str, Any]
    facts: Facts | None
    findings: list[Finding]
    unknown: str = ""

    @property
    def allowed(self) -> list[str]:
        """The codes that `plan.allow` names; none if the values were not composed."""
        return self.values["plan"]["allow"] if self.values else []

    @property
    def errors(self) -> list[Finding]:
        """The findings that refuse the run.

        Raises:
            UserError: `plan.allow` names a code that does not exist.
        """
        return judge.refused(self.findings, self.allowed)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        facts = self.facts.to_dict() if self.facts else {}
        return facts | {"findings": [vars(finding) for finding in self.findings]}


def plan(values: dict[str, Any], root: Path) -> Plan:
    """Plan the run of the composed `values`. If the data or the model are not known, the plan has no facts, and only the
    findings of the tools.

    Raises:
        UserError: the device is not known, a tool cannot be asked, or training would fail at its start.
    """
    chosen, origin = device.chosen(values)
    axolotl = acceptance.ask(values, root, chosen, origin)  # both are answered while the run is predicted
    checkers = instructions.ask(values, root)
    facts, findings, unknown = None, [], ""
    try:
        facts = prediction.predict(values, root, chosen, origin)
        findings = judge.judge(values, facts, os.environ)
    except NotKnown as error:
        unknown = str(error)
    refusals = judge.tools_refuse(values, axolotl(), checkers(), origin == "this machine")
    return Plan(values, facts, sorted([*refusals, *findings], key=lambda finding: finding.level), unknown)


def check_run(values: dict[str, Any], root: Path) -> Plan:
    """Plan the run, and print the plan.

    Raises:
        UserError: the plan has errors that `plan.allow` does not name, or `plan` raises it.
    """
    planned = plan(values, root)
    refusal = _refusal(planned)
    print(table.table(planned.facts) if planned.facts else f"no plan: {planned.unknown}", flush=True)
    if planned.findings:
        print(f"\n{table.problems(planned.findings, planned.allowed)}\n", flush=True)
    if refusal:
        raise UserError(f"the plan has errors, so the run was not started: {refusal}")
    return planned


def check_job(values: dict[str, Any], root: Path) -> None:
    """Plan a job of a sweep before any job starts, without printing.

    Raises:
        UserError: the job would be refused, or one of its inputs is missing or wrong.
    """
    inputs.check(values)
    if refusal := _refusal(plan(values, root)):
        raise UserError(f"its plan has errors: {refusal}")


def _refusal(planned: Plan) -> str:
    """Return the codes of the errors, and what to do about them; "" if there are none."""
    codes = [finding.code for finding in planned.errors]
    if not codes:
        return ""
    listed = ",".join(codes)
    advice = "`tunetrail plan` with the same overrides says why and, if it knows a fix, prints the corrected command"
    allow = "" if set(codes) & set(judge.NEVER_ALLOWED) else f". If you mean it: 'plan.allow=[{listed}]'"
    return f"{listed}. {advice}{allow}"
