"""What every processor must keep, tried on one that a user names: see `ProcessorContract`."""

from harness.processors.contract.contract import CHECKS, ContractReport, ContractRun, ProcessorContract, check_processor
from harness.processors.contract.trial import CheckOutcome

__all__ = ["CHECKS", "CheckOutcome", "ContractReport", "ContractRun", "ProcessorContract", "check_processor"]
