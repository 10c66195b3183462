//! How much lies on each page now. That follows from the live objects, so it is counted when somebody asks, which is seldom, and
//! followed from there on for as long as counting took: who asks again soon does not wait, and who does not has nothing to pay.

use super::{Held, Span};
use crate::page_map::{LEAF_PAGES, PageMap};

/// Events that are followed after a question, however few objects there are.
const FOLLOWED_EVENTS_MIN: u64 = 1 << 12;

/// The live objects on one page, inner pages of large ones left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LiveOnPage {
    /// Usable bytes of them. More than the page holds only where a trace lost frees; kept modulo 2³², so that taking away
    /// what was added always gives back what was there.
    pub(crate) bytes: u32,
    /// How many have at least one byte on the page.
    pub(crate) objects: u32,
}

/// What lies on the pages of one process.
#[derive(Clone, Debug, Default)]
pub(super) struct LiveCounts {
    /// Where they are known.
    followed: Option<PageMap<LiveOnPage>>,
    /// Events since the last question.
    unasked: u64,
}

impl LiveCounts {
    /// A question: counts the `live` objects where that is needed.
    pub(super) fn ask(&mut self, live: impl Iterator<Item = Span>) {
        self.unasked = 0;
        if self.followed.is_none() {
            self.followed = Some(PageMap::new());
            live.for_each(|span| self.add(span));
        }
    }

    /// So many events went by, and so many objects live.
    #[inline]
    pub(super) fn go_on(&mut self, events: usize, live: usize) {
        self.unasked = self.unasked.saturating_add(events as u64);
        if self.unasked > FOLLOWED_EVENTS_MIN.max(live as u64) {
            self.followed = None;
        }
    }

    /// An object came to life.
    #[inline]
    pub(super) fn add(&mut self, span: Span) {
        if let Some(pages) = &mut self.followed {
            span.change_records(|page, bytes, objects| {
                let on_page = pages.get_mut(page);
                on_page.bytes = on_page.bytes.wrapping_add(bytes);
                on_page.objects = on_page.objects.wrapping_add(objects);
            });
        }
    }

    /// An object died.
    #[inline]
    pub(super) fn remove(&mut self, span: Span) {
        if let Some(pages) = &mut self.followed {
            span.change_records(|page, bytes, objects| {
                let on_page = pages.get_mut(page);
                on_page.bytes = on_page.bytes.wrapping_sub(bytes);
                on_page.objects = on_page.objects.wrapping_sub(objects);
            });
        }
    }

    /// Reads the memory that a change of this page reads.
    #[inline]
    pub(super) fn approach(&self, page: u64) {
        if let Some(pages) = &self.followed {
            std::hint::black_box(pages.get(page).objects);
        }
    }

    /// What lies on a page. It must have been asked for since the last event.
    #[inline]
    pub(super) fn on(&self, page: u64) -> LiveOnPage {
        debug_assert!(self.followed.is_some(), "what lies on page {page:#x} was not asked for");
        self.followed.as_ref().map_or_else(LiveOnPage::default, |pages| pages.get(page))
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.followed = None;
    }

    /// Gives back memory of pages without objects.
    pub(super) fn prune(&mut self) {
        if let Some(pages) = &mut self.followed {
            pages.prune(|_, _| {});
        }
    }

    /// About how much memory they take once they are asked for, of pages that ever held an object.
    pub(super) fn heap_bytes_max(held: &PageMap<Held>) -> usize {
        held.leaf_count() * LEAF_PAGES as usize * size_of::<LiveOnPage>()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use pagetrace_format::PageShift;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However seldom it is asked, the answer is that of counting all objects anew.
        #[test]
        fn what_is_followed_is_what_is_counted(
            steps in prop::collection::vec((0_u64..40, 0_u64..9000, 0_usize..6000, any::<bool>()), 1..60),
        ) {
            let span = |place: &u64, usable: &u64| Span::of(PageShift::KIB_4, place * 1000, *usable);
            let (mut counts, mut objects) = (LiveCounts::default(), BTreeMap::new());
            for (place, usable, events, asked) in steps {
                if let Some(usable) = objects.remove(&place) {
                    counts.remove(span(&place, &usable));
                } else {
                    counts.add(span(&place, &usable));
                    objects.insert(place, usable);
                }
                counts.go_on(events, objects.len());
                if asked {
                    let mut anew = LiveCounts::default();
                    anew.ask(objects.iter().map(|(place, usable)| span(place, usable)));
                    counts.ask(objects.iter().map(|(place, usable)| span(place, usable)));
                    for page in 0..15 {
                        prop_assert_eq!(counts.on(page), anew.on(page));
                    }
                }
            }
        }
    }
}
