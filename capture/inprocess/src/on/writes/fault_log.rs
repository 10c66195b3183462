//! The faults of an epoch that may have been its first writes: of each page one, found by its record.

use super::super::mapped_array::MappedArray;
use super::super::{tasks, tracer_threads};
use super::page_records::PageRecords;
use crate::sys::PAGE_BYTES;
use crate::sys::page_faults::Fault;

/// Faults that are kept at the most. With three quarters of them the epoch is ended early.
const FAULTS_MAX: usize = 512 << 10;

/// One fault.
#[derive(Clone, Copy, Debug)]
pub struct Noted {
    /// Its page, [`TAKEN`] once a write has been explained by it.
    page: usize,
    pub instruction: u64,
    pub time: u64,
    pub tid: u32,
    /// Whether it is the second one of its page.
    second: bool,
    pub task: Option<u64>,
}

const TAKEN: usize = usize::MAX;

/// The faults.
pub struct FaultLog {
    faults: MappedArray<Noted>,
    /// Those for which there was no room.
    pub lost: u64,
}

impl FaultLog {
    pub const fn new() -> FaultLog {
        FaultLog { faults: MappedArray::new(), lost: 0 }
    }

    /// Makes room, once.
    pub fn make(&mut self) -> bool {
        self.faults.make(FAULTS_MAX)
    }

    /// Whether the epoch should end, since there is not much room left.
    pub fn is_nearly_full(&self) -> bool {
        self.faults.room() < FAULTS_MAX / 4
    }

    /// Notes a fault. Of a page that was in memory at the last look the first one is that of the first write: reading it takes
    /// none. Of another one it is the second, if there is a second: reading comes first, or the write faults twice.
    pub fn note(&mut self, records: &PageRecords, fault: &Fault) {
        if tracer_threads::is_one(fault.tid) {
            return;
        }
        let page = fault.address as usize / PAGE_BYTES;
        let Some(record) = records.get_or_make(page) else { return };
        let number = record.fault() as usize;
        let known = self.faults.values_mut().get_mut(number.wrapping_sub(1)).filter(|known| known.page == page);
        let second = known.is_some();
        if known.as_ref().is_some_and(|known| record.is_in_memory() || known.second) {
            return;
        }
        let Fault { instruction, tid, time, .. } = *fault;
        let noted = Noted { page, instruction, time, tid, second, task: tasks::at(tid, time) };
        if let Some(known) = known {
            *known = noted;
        } else if self.faults.push(noted) {
            record.set_fault(self.faults.values().len() as u32);
        } else {
            self.lost += 1;
        }
    }

    /// Takes the fault of a page out, if it came before `until`.
    pub fn take(&mut self, records: &PageRecords, page: usize, until: u64) -> Option<Noted> {
        let record = records.get(page)?;
        let number = record.fault() as usize;
        let noted = self.faults.values_mut().get_mut(number.checked_sub(1)?)?;
        if noted.page != page || noted.time > until {
            return None;
        }
        record.set_fault(0);
        let taken = *noted;
        noted.page = TAKEN;
        Some(taken)
    }

    /// At the end of an epoch: keeps those that came after the look at their page began, which belong to the next.
    pub fn keep_later(&mut self, records: &PageRecords, look_began: u64) {
        let mut kept = 0;
        for index in 0..self.faults.values().len() {
            let noted = self.faults.values()[index];
            let Some(record) = records.get(noted.page) else { continue };
            let later = noted.time >= look_began.max(records.looked_at(noted.page));
            record.set_fault(if later { kept as u32 + 1 } else { 0 });
            if later {
                self.faults.values_mut()[kept] = noted;
                kept += 1;
            }
        }
        if kept == 0 {
            self.faults.release();
        } else {
            self.faults.truncate(kept);
        }
    }

    /// Forgets all.
    pub fn release(&mut self) {
        self.faults.release();
        self.lost = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(page: usize, tid: u32, time: u64) -> Fault {
        Fault { instruction: 0x10 + time, tid, time, address: (page * PAGE_BYTES + 8) as u64 }
    }

    fn new() -> (PageRecords, FaultLog) {
        let (records, mut log) = (PageRecords::new(), FaultLog::new());
        assert!(records.make() && log.make());
        (records, log)
    }

    #[test]
    fn the_first_fault_of_a_page_in_memory_is_its_write_and_the_second_of_another() {
        let (records, mut log) = new();
        records.set_held(5, true, true);
        for (page, tid, time) in [(5, 1, 10), (6, 1, 11), (5, 2, 12), (6, 2, 13), (6, 3, 14), (7, 4, 15)] {
            log.note(&records, &fault(page, tid, time));
        }
        let mut first = |page| log.take(&records, page, 100).map(|noted| (noted.tid, noted.instruction));
        assert_eq!((first(5), first(6), first(7)), (Some((1, 0x1a)), Some((2, 0x1d)), Some((4, 0x1f))));
        assert_eq!((first(5), first(8)), (None, None));
    }

    #[test]
    fn faults_after_the_look_are_the_next_epochs() {
        let (records, mut log) = new();
        for (page, time) in [(1, 10), (2, 50), (3, 51), (1024, 52)] {
            log.note(&records, &fault(page, 1, time));
        }
        records.set_looked_at((0, 512), 40);
        records.set_looked_at((1024, 1025), 60);
        assert!(log.take(&records, 2, 49).is_none(), "it came after the page was looked at");
        log.keep_later(&records, 40);
        assert!(log.take(&records, 1, 100).is_none() && log.take(&records, 1024, 100).is_none());
        assert_eq!(log.take(&records, 2, 100).map(|noted| noted.time), Some(50));
        assert_eq!(log.take(&records, 3, 100).map(|noted| noted.time), Some(51));
        log.keep_later(&records, 200);
        assert_eq!(log.faults.values().len(), 0);
    }
}
