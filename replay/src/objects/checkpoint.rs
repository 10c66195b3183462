//! The objects of a process in a checkpoint.

use hashbrown::HashMap;
use pagetrace_format::{ProcessId, StackId, StreamId, TableKind, TraceNanos};

use super::{Allocated, Object, ObjectTable, ObjectTotals, Packed, SiteId, SiteTotals};
use crate::births::Births;
use crate::checkpoint::{COUNT_MAX, Checkpoint, Tables};
use crate::estimates::checkpoint::{DIED, estimate_of, put_estimate};
use crate::estimates::{SamplingRate, Sum};
use crate::late_births::LateBirth;

impl ObjectTable {
    /// Puts live objects and sites into tables.
    pub(crate) fn put_into(&self, tables: &mut Tables, births: &Births, streams: &[StreamId]) {
        for (address, time, stream) in self.early_frees.waiting(streams) {
            tables.push(TableKind::EARLY_FREES, &[address, time.0, stream.0.into()]);
        }
        for LateBirth { address, object, died_young, time, stream } in self.late_births.waiting(streams) {
            let row = self.row_of(address, &object, births.before(address, time));
            tables.push(TableKind::LATE_BIRTHS, &[&row[..], &[time.0, stream.0.into(), died_young.into()]].concat());
        }
        let mut rows: Vec<[u64; 6]> = Vec::with_capacity(self.live_count());
        rows.extend(self.live().map(|(address, object)| self.row_of(address.0, &object, births.of(address.0))));
        rows.sort_unstable();
        rows.iter().for_each(|row| tables.push(TableKind::OBJECTS, row));
        let mut sites: Vec<(usize, &SiteTotals)> =
            self.sites.iter().enumerate().filter(|(_, site)| site.is_of_note()).collect();
        sites.sort_unstable_by_key(|(_, site)| site.id);
        for (place, site) in sites {
            let SiteId { process, stack } = site.id;
            let SiteTotals { allocated, allocated_bytes, freed_young, freed_old, .. } = *site;
            let row = [process.0.into(), stack.0.into(), allocated, allocated_bytes, freed_young, freed_old];
            match self.rate.is_sampled() {
                false => tables.push(TableKind::SITES, &row),
                true => {
                    let Allocated { objects, bytes } = self.allocated(place);
                    tables.push(TableKind::SITES, &[&row[..], &objects.bits(), &bytes.bits()].concat());
                }
            }
        }
        if self.rate.is_sampled() {
            put_estimate(tables, DIED, &self.died);
        }
    }

    /// The objects of a process at a checkpoint. `part_of` tells in which part of its life a time lies.
    pub(crate) fn restored(
        own: ProcessId,
        checkpoint: &Checkpoint,
        rate: SamplingRate,
        totals: ObjectTotals,
        after_gap: bool,
        part_of: impl Fn(TraceNanos) -> u8,
        slots: &HashMap<StreamId, u32>,
    ) -> ObjectTable {
        let mut table = ObjectTable { totals, after_gap, ..ObjectTable::new(rate) };
        for [address, time, stream] in checkpoint.rows::<3>(own, TableKind::EARLY_FREES) {
            let stream = StreamId(stream as u32);
            table.early_frees.restore(address, TraceNanos(time), stream, slots.get(&stream).copied());
        }
        let mut places: HashMap<SiteId, u32> = HashMap::new();
        let mut died = 0_u64;
        for [process, stack, allocated, allocated_bytes, freed_young, freed_old, estimates @ ..] in
            checkpoint.rows::<10>(own, TableKind::SITES)
        {
            let place = table.place_of(&mut places, own, process, stack);
            let site = &mut table.sites[place as usize];
            (site.allocated, site.allocated_bytes) = (allocated.min(COUNT_MAX), allocated_bytes);
            (site.freed_young, site.freed_old) = (freed_young.min(COUNT_MAX), freed_old.min(COUNT_MAX));
            died = died.saturating_add(site.freed_young + site.freed_old);
            if rate.is_sampled() {
                let [more_objects, of_objects, more_bytes, of_bytes] = estimates;
                let objects = Sum::from_bits(site.allocated, [more_objects, of_objects]);
                let bytes = Sum::from_bits(site.allocated_bytes, [more_bytes, of_bytes]);
                table.allocated.resize_with(table.sites.len(), Allocated::default);
                table.allocated[place as usize] = Allocated { objects, bytes };
            }
        }
        table.died = estimate_of(checkpoint, own, DIED, died);
        for [address, size, extra, born, process, stack, time, stream, died_young] in
            checkpoint.rows::<9>(own, TableKind::LATE_BIRTHS)
        {
            let site = table.place_of(&mut places, own, process, stack);
            let object = Object { size, usable: size.saturating_add(extra), site, born: part_of(TraceNanos(born)) };
            let stream = StreamId(stream as u32);
            let birth = LateBirth { address, object, died_young: died_young != 0, time: TraceNanos(time), stream };
            table.late_births.restore(birth, slots.get(&stream).copied());
        }
        for [address, size, extra, born, process, stack] in checkpoint.rows::<6>(own, TableKind::OBJECTS) {
            let site = table.place_of(&mut places, own, process, stack);
            let born = part_of(TraceNanos(born));
            let object = Object { size, usable: size.saturating_add(extra), site, born };
            let packed = Packed::new(object);
            table.live.insert(address, packed);
            if packed == Packed::ELSEWHERE {
                table.unpacked.insert(address, object);
            }
        }
        table
    }

    /// Whether a gap may hide what is freed now.
    pub(crate) fn is_after_gap(&self) -> bool {
        self.after_gap
    }

    fn row_of(&self, address: u64, object: &Object, born: TraceNanos) -> [u64; 6] {
        let SiteId { process, stack } = self.sites[object.site as usize].id;
        let extra = object.usable.wrapping_sub(object.size);
        [address, object.size, extra, born.0, process.0.into(), stack.0.into()]
    }

    fn place_of(&mut self, places: &mut HashMap<SiteId, u32>, own: ProcessId, process: u64, stack: u64) -> u32 {
        let id = SiteId { process: ProcessId(process as u32), stack: StackId(stack as u32) };
        *places.entry(id).or_insert_with(|| {
            let place = self.sites.len() as u32;
            self.sites.push(SiteTotals::new(id));
            if id.process == own {
                self.site_of.insert(id.stack, place);
            }
            place
        })
    }
}

impl SiteTotals {
    /// Whether anything was born or died here since the process began.
    fn is_of_note(&self) -> bool {
        self.allocated + self.freed_young + self.freed_old > 0
    }
}
