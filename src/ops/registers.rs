//! Which of the processor's registers loops run in: the widest it has. They never change a bit: loops neither fuse nor
//! reorder floating-point arithmetic, and what is fused is so on every instruction set.

use pulp::Arch;

/// What loops are dispatched to.
#[inline(always)]
pub fn registers() -> Arch {
    #[cfg(test)]
    if let Some(forced) = forced::get() {
        return forced;
    }
    Arch::new()
}

/// For tests: narrower registers than the machine has.
#[cfg(test)]
pub mod forced {
    use std::sync::atomic::{AtomicU8, Ordering};
    use std::sync::{Mutex, MutexGuard, PoisonError};

    use pulp::Arch;

    static FORCED: AtomicU8 = AtomicU8::new(0);
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

    /// All threads run in these registers until it is dropped; tests beside it are slower and get the same bits.
    pub struct Forced {
        _one_at_a_time: MutexGuard<'static, ()>,
    }

    impl Drop for Forced {
        fn drop(&mut self) {
            FORCED.store(0, Ordering::SeqCst);
        }
    }

    /// Every choice that this machine has, narrowest first.
    pub fn choices() -> Vec<(&'static str, u8)> {
        let mut choices = vec![("portable", 1)];
        #[cfg(target_arch = "x86_64")]
        choices.extend(pulp::x86::V3::try_new().map(|_| ("AVX2", 2)));
        choices.push(("widest", 3));
        choices
    }

    pub fn force(choice: u8) -> Forced {
        let one_at_a_time = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        FORCED.store(choice, Ordering::SeqCst);
        Forced { _one_at_a_time: one_at_a_time }
    }

    pub fn get() -> Option<Arch> {
        match FORCED.load(Ordering::Relaxed) {
            1 => Some(Arch::Scalar),
            #[cfg(target_arch = "x86_64")]
            2 => pulp::x86::V3::try_new().map(Arch::V3),
            _ => None,
        }
    }
}
