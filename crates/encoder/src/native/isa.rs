//! Which instructions the kernels are compiled for, chosen when the program runs.
#![allow(unsafe_code, reason = "code for an instruction set may run only where the processor has it")]

use super::vector::{Lanes, Vector};

/// Something to compute, written for any vector. `run` must be `#[inline(always)]`: only what ends up inside of the
/// function that is compiled for an instruction set uses it.
pub(super) trait Kernel {
    fn run<V: Vector>(self);
}

#[cfg(target_arch = "x86_64")]
type Baseline = Lanes<4, false, 16>;
#[cfg(target_arch = "aarch64")]
type Baseline = Lanes<4, true, 32>;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
type Baseline = Lanes<4, false, 16>;

/// An instruction set that this processor has: there is no other way to get one than [`Isa::available`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Isa(Set);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Set {
    /// What every processor of the architecture has: SSE2, NEON.
    Baseline,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Isa {
    /// From the plainest to the best.
    pub fn available() -> Vec<Isa> {
        #[allow(unused_mut, reason = "x86-64 has more than one")]
        let mut sets = vec![Isa(Set::Baseline)];
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma");
            if avx2 {
                sets.push(Isa(Set::Avx2));
            }
            if avx2 && std::arch::is_x86_feature_detected!("avx512f") {
                sets.push(Isa(Set::Avx512));
            }
        }
        sets
    }

    pub fn named(name: &str) -> Option<Isa> {
        Isa::available().into_iter().find(|isa| isa.name() == name)
    }

    pub fn best() -> Isa {
        Isa::available().pop().unwrap_or(Isa(Set::Baseline))
    }

    pub fn name(self) -> &'static str {
        match self.0 {
            Set::Baseline if cfg!(target_arch = "x86_64") => "SSE2",
            Set::Baseline if cfg!(target_arch = "aarch64") => "NEON",
            Set::Baseline => "portable",
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => "AVX2",
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => "AVX-512",
        }
    }

    /// Values in one vector.
    pub fn lanes(self) -> usize {
        match self.0 {
            Set::Baseline => Baseline::LANES,
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => Avx2::LANES,
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => Avx512::LANES,
        }
    }

    pub fn run(self, kernel: impl Kernel) {
        match self.0 {
            Set::Baseline => kernel.run::<Baseline>(),
            // SAFETY: `available` hands this value out only where the processor has AVX2 and FMA.
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => unsafe { avx2(kernel) },
            // SAFETY: `available` hands this value out only where the processor has AVX-512F, AVX2 and FMA.
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => unsafe { avx512(kernel) },
        }
    }
}

#[cfg(target_arch = "x86_64")]
type Avx2 = Lanes<8, true, 16>;
#[cfg(target_arch = "x86_64")]
type Avx512 = Lanes<16, true, 32>;

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2(kernel: impl Kernel) {
    kernel.run::<Avx2>();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2,fma")]
fn avx512(kernel: impl Kernel) {
    kernel.run::<Avx512>();
}
