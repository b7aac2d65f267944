//! One vector type for all processors: as many `f32` as a register holds, as a plain array.
//!
//! Compiled for an instruction set (`isa`) its loops become that set's instructions; measured within 3 % of intrinsics.
#![allow(clippy::needless_range_loop, reason = "registers are counted; what iterators are given may be compiled apart")]

/// What the kernels are written with.
pub(super) trait Vector: Copy {
    /// Values in one vector.
    const LANES: usize;
    /// Vector registers of the processor: how many sums a kernel may keep.
    const REGISTERS: usize;

    fn splat(value: f32) -> Self;
    /// The first [`Self::LANES`] of `values`.
    fn load(values: &[f32]) -> Self;
    fn store(self, values: &mut [f32]);
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    /// `self * factor + addend`, in one instruction where there is one.
    fn mul_add(self, factor: Self, addend: Self) -> Self;
    fn max(self, other: Self) -> Self;
    fn min(self, other: Self) -> Self;

    /// As many as there are, up to [`Self::LANES`]; zeros for the others.
    #[inline(always)]
    fn load_part(values: &[f32]) -> Self {
        if values.len() >= Self::LANES {
            return Self::load(values);
        }
        let mut all = [0.0; MAX_LANES];
        all[..values.len()].copy_from_slice(values);
        Self::load(&all)
    }

    /// As many as there is room for.
    #[inline(always)]
    fn store_part(self, values: &mut [f32]) {
        if values.len() >= Self::LANES {
            return self.store(values);
        }
        let mut all = [0.0; MAX_LANES];
        self.store(&mut all);
        values.copy_from_slice(&all[..values.len()]);
    }
}

pub(super) const MAX_LANES: usize = 16;

/// `L` values; `FUSED` where multiply-add is one instruction, `R` registers.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Lanes<const L: usize, const FUSED: bool, const R: usize>([f32; L]);

impl<const L: usize, const FUSED: bool, const R: usize> Lanes<L, FUSED, R> {
    #[inline(always)]
    fn zip(self, other: Self, compute: impl Fn(f32, f32) -> f32) -> Self {
        let mut result = [0.0; L];
        for lane in 0..L {
            result[lane] = compute(self.0[lane], other.0[lane]);
        }
        Lanes(result)
    }
}

impl<const L: usize, const FUSED: bool, const R: usize> Vector for Lanes<L, FUSED, R> {
    const LANES: usize = L;
    const REGISTERS: usize = R;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Lanes([value; L])
    }

    #[inline(always)]
    fn load(values: &[f32]) -> Self {
        Lanes(*values[..L].first_chunk().unwrap_or(&[0.0; L]))
    }

    #[inline(always)]
    fn store(self, values: &mut [f32]) {
        if let Some(lanes) = values[..L].first_chunk_mut() {
            *lanes = self.0;
        }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        let mut result = [0.0; L];
        for lane in 0..L {
            let (a, b, c) = (self.0[lane], factor.0[lane], addend.0[lane]);
            // Where there is no such instruction `f32::mul_add` is a slow call of the C library.
            result[lane] = if FUSED { a.mul_add(b, c) } else { a * b + c };
        }
        Lanes(result)
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // Written so that it is one instruction; `f32::max` also has rules for NaN.
        self.zip(other, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { a } else { b })
    }
}
