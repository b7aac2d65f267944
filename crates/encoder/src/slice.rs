//! NumPy's `x[begin:end:stride]` as STRIDED_SLICE states it.

const MAX_RANK: usize = 8;

/// A bit of each mask for each position: begin and end may be left open, an ellipsis stands for all axes not named, a new
/// axis is inserted, a shrunk one is indexed and dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Masks {
    pub begin: i32,
    pub end: i32,
    pub ellipsis: i32,
    pub new_axis: i32,
    pub shrink: i32,
}

/// What is taken of each axis of the input, and the shape of the result.
#[derive(Debug, PartialEq)]
pub(super) struct Slices {
    pub axes: Vec<Range>,
    pub result: Vec<usize>,
}

impl Slices {
    /// # Errors
    /// What was expected and found, for positions that do not fit `from`.
    pub fn of(masks: &Masks, from: &[usize], [begins, ends, strides]: [&[i64]; 3]) -> Result<Slices, String> {
        let count = begins.len();
        if ends.len() != count || strides.len() != count || count > MAX_RANK {
            return Err(format!(
                "expected begins, ends and strides of one length, found {begins:?}, {ends:?}, {strides:?}"
            ));
        }
        let set = |mask: i32, position: usize| mask & (1 << position) != 0;
        let mut slices = Slices { axes: Vec::with_capacity(from.len()), result: Vec::new() };
        let mut seen_ellipsis = false;
        for position in 0..count {
            let axis = slices.axes.len();
            if set(masks.ellipsis, position) && !seen_ellipsis {
                seen_ellipsis = true;
                let named = (position + 1..count).filter(|&later| !set(masks.new_axis, later)).count();
                slices.take_whole(&from[axis..from.len().saturating_sub(named).max(axis)]);
                continue;
            }
            if set(masks.new_axis, position) {
                slices.result.push(1);
                continue;
            }
            let Some(&dim) = from.get(axis) else {
                return Err(format!("expected at most {} positions, found {count}", from.len()));
            };
            let range = if set(masks.shrink, position) {
                Range::index(begins[position], dim)
            } else {
                let begin = (!set(masks.begin, position)).then_some(begins[position]);
                let end = (!set(masks.end, position)).then_some(ends[position]);
                Range::slice(begin, end, strides[position], dim)
            };
            let range = range.ok_or_else(|| {
                format!(
                    "expected a slice within {dim}, found {}:{}:{}",
                    begins[position], ends[position], strides[position]
                )
            })?;
            if !set(masks.shrink, position) {
                slices.result.push(range.count());
            }
            slices.axes.push(range);
        }
        slices.take_whole(&from[slices.axes.len()..]);
        Ok(slices)
    }

    fn take_whole(&mut self, dims: &[usize]) {
        self.axes.extend(dims.iter().map(|&dim| Range { start: 0, end: dim, stride: 1 }));
        self.result.extend_from_slice(dims);
    }
}

/// Elements `start..end` of an axis, every `stride`th of them; from the last one backwards where it is negative.
#[derive(Debug, PartialEq)]
pub(super) struct Range {
    pub start: usize,
    pub end: usize,
    pub stride: isize,
}

impl Range {
    /// Elements that are taken.
    pub fn count(&self) -> usize {
        (self.end - self.start).div_ceil(self.stride.unsigned_abs())
    }

    fn index(index: i64, dim: usize) -> Option<Range> {
        let index = usize::try_from(if index < 0 { index.checked_add(dim as i64)? } else { index }).ok()?;
        (index < dim).then_some(Range { start: index, end: index + 1, stride: 1 })
    }

    /// `None` for a stride of 0 and for slices without elements.
    fn slice(begin: Option<i64>, end: Option<i64>, stride: i64, dim: usize) -> Option<Range> {
        let size = dim as i64;
        let from_start = |position: i64| if position < 0 { position.saturating_add(size) } else { position };
        let stride_size = isize::try_from(stride).ok().filter(|&stride| stride != 0 && stride != isize::MIN)?;
        let (start, end) = if stride > 0 {
            (begin.map_or(0, from_start).clamp(0, size), end.map_or(size, from_start).clamp(0, size))
        } else {
            // Backwards from `begin` down to, but without, `end`.
            let first = begin.map_or(size - 1, from_start).clamp(-1, size - 1);
            let last = end.map_or(-1, from_start).clamp(-1, size - 1);
            (last + 1, first + 1)
        };
        (start < end).then_some(Range { start: start as usize, end: end as usize, stride: stride_size })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_numpys() {
        let found = |start, end, stride| Some(Range { start, end, stride });
        assert_eq!(Range::slice(None, None, 1, 5), found(0, 5, 1));
        assert_eq!(Range::slice(Some(1), Some(-1), 2, 6), found(1, 5, 2));
        assert_eq!(Range::slice(Some(-9), Some(99), 1, 6), found(0, 6, 1));
        assert_eq!(Range::slice(None, None, -1, 6), found(0, 6, -1));
        assert_eq!(Range::slice(Some(-2), Some(0), -1, 6), found(1, 5, -1));
        assert_eq!(Range::slice(Some(3), Some(3), 1, 6), None);
        assert_eq!(Range::slice(None, None, 0, 6), None);
        assert_eq!(Range::slice(Some(i64::MIN), Some(i64::MIN), i64::MIN, 6), None);
        assert_eq!(Range::index(-1, 4), found(3, 4, 1));
        assert_eq!(Range::index(4, 4), None);
        assert_eq!(Range::index(-5, 4), None);
    }
}
