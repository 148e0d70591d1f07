"""A driver for tests: Lava's, whose output neurons raise an exception in the middle of the second window."""

from firstspike.backends import lava

OPTIONS = lava.OPTIONS


class Driver(lava.Driver):
    def __init__(self, options, model, network):
        from lava.proc.lif.models import PyLifResetModelBitAcc

        run = PyLifResetModelBitAcc.run_spk

        def run_spk(self):
            if self.time_step == self.reset_interval + 5:
                raise ArithmeticError("told to fail")
            run(self)

        PyLifResetModelBitAcc.run_spk = run_spk
        super().__init__(options, model, network)
