"""What every processor must keep, tried on one that a user names: see `ProcessorContract`."""

from harness.processors.contract.check import Outcome
from harness.processors.contract.contract import CHECKS, Contract, ProcessorContract, check_processor
from harness.processors.contract.report import ContractReport

__all__ = ["CHECKS", "Contract", "ContractReport", "Outcome", "ProcessorContract", "check_processor"]
