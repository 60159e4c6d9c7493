"""Tests of the lab's own parts, which need no virtual machine.

python3 -m unittest discover --start-directory tests/vm
"""

import json
import unittest
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import drivers
from lab import expected, nics
from lab.cache import KERNELS, Kernel
from lab.client import Load
from lab.daemon import Receiving
from lab.initrd import Archive, _depends
from lab.result import KERNEL_FAULT, Cell


class Archives(unittest.TestCase):
    """Archives that the kernel unpacks."""

    def test_entries_are_aligned_and_an_archive_has_its_end(self):
        archive = Archive()
        archive.file("a", b"12345")
        self.assertTrue(all(len(part) % 4 == 0 for part in archive.parts))
        self.assertIn(b"TRAILER!!!", archive.finish())

    def test_a_module_names_what_it_depends_on(self):
        self.assertEqual(
            _depends(b"\0license=GPL\0depends=dca,i2c-algo-bit\0name=igb\0"), ["dca", "i2c_algo_bit"]
        )
        self.assertEqual(_depends(b"\0license=GPL\0depends=\0"), [])


class ShortForm(unittest.TestCase):
    """The short form tries once more what fails."""

    def test_a_second_failure_counts_and_a_first_one_does_not(self):
        for second_fails in (False, True):
            kernels = [Kernel("6.1", "6.1.0", Path(), Path()), Kernel("newest", "7.3", Path(), Path())]
            run = drivers.Run.__new__(drivers.Run)
            run.cells, run.kernels = [], kernels
            tried = []

            def try_cell(kernel, driver, run=run, tried=tried, second_fails=second_fails):
                cell = Cell.of(kernel, driver, "auto", "driver copy 1")
                fails = (kernel.label, driver) in (("6.1", "veth"), ("newest", "igb"))
                if fails and (second_fails or (kernel.label, driver) not in tried):
                    cell.fail("no answer")
                tried.append((kernel.label, driver))
                run.tell(cell)

            run.verifier = lambda kernels, try_cell=try_cell: [try_cell(kernel, "veth") for kernel in kernels]
            run.matrix = lambda wanted, modes, kernels, try_cell=try_cell: [
                try_cell(kernel, nic.driver) for kernel in kernels for nic in wanted
            ]
            with redirect_stdout(StringIO()) as printed:
                run.short((nics.VIRTIO, nics.IGB), kernels[1:])
            first = [("6.1", "veth"), ("newest", "veth"), ("newest", "virtio_net"), ("newest", "igb")]
            self.assertEqual(tried, [*first, ("6.1", "veth"), ("newest", "igb")])
            self.assertEqual((len(run.cells), run.tried_again), (4, 2))
            self.assertEqual(sum(bool(cell.failures) for cell in run.cells), 2 * second_fails)
            self.assertIn("once more:", printed.getvalue())


class Reading(unittest.TestCase):
    """Parsing of programs' output."""

    def test_status_is_read_in_all_its_forms(self):
        for text, read in (
            (
                "AF_XDP on nic1, queues: 2, program: driver, sockets: zero-copy (nic1 has zero-copy)",
                "driver zero-copy 2",
            ),
            (
                "AF_XDP on nic4, queues: 1, program: generic, because the driver refused: `bpf_link_create` failed: "
                "Operation not supported (os error 95), sockets: copy (nic4 has no zero-copy: Operation not supported)",
                "generic copy 1",
            ),
            ("kernel sockets", "kernel sockets"),
        ):
            self.assertEqual(str(Receiving(text)), read)

    def test_a_load_is_clean_only_if_each_answer_came_and_was_right(self):
        report = {
            "sent": {"queries": 9},
            "responses": 9,
            "discarded": 0,
            "unexpected": 0,
            "answers_per_second": 1.0,
        }
        self.assertTrue(Load.read(json.dumps(report)).is_clean(withheld=0))
        self.assertTrue(Load.read(json.dumps(report | {"responses": 8})).is_clean(withheld=1))
        for fault in ({"responses": 8}, {"discarded": 1}, {"unexpected": 1}):
            self.assertFalse(Load.read(json.dumps(report | fault)).is_clean(withheld=0), fault)

    def test_faults_of_a_kernel_are_told_from_its_news(self):
        self.assertIsNotNone(KERNEL_FAULT.search("[ 9.1] WARNING: CPU: 0 PID: 1 at net/core/dev.c:1"))
        self.assertIsNotNone(
            KERNEL_FAULT.search("[ 9.1] NETDEV WATCHDOG: nic2 (igb): transmit queue 0 timed out")
        )
        self.assertIsNone(
            KERNEL_FAULT.search("[ 9.1] igb 0000:00:02.0 nic2: NIC Link is Up 1000 Mbps Full Duplex")
        )


class Table(unittest.TestCase):
    """Table expected.toml."""

    def test_every_cell_has_an_expectation_and_what_is_less_than_best_a_reason(self):
        for nic in nics.ALL:
            for mode in expected.MODES:
                for label in KERNELS:
                    kernel = Kernel(label, label, Path(), Path())
                    self.assertTrue(expected.cell(kernel, nic.driver, mode).expected)


if __name__ == "__main__":
    unittest.main()
