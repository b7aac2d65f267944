//! Everything that is little work: element by element along axes, each operand with its own way through memory.

/// Where an operand's elements lie: the first one, and the distance along each axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct View {
    pub first: usize,
    pub strides: Vec<isize>,
}

impl View {
    /// Of elements that lie side by side.
    pub fn of(dims: &[usize]) -> View {
        let mut strides = vec![0; dims.len()];
        let mut stride = 1;
        for (place, &dim) in strides.iter_mut().zip(dims).rev() {
            *place = stride;
            stride *= dim as isize;
        }
        View { first: 0, strides }
    }

    /// Without the last axis.
    pub fn outer(&self) -> View {
        View { first: self.first, strides: self.strides[..self.strides.len().saturating_sub(1)].to_vec() }
    }

    /// Of an operand of `dims` where `to` broadcasts it: the same element again along the axes that it lacks.
    pub fn broadcast(dims: &[usize], to: &[usize]) -> View {
        let own = View::of(dims);
        let mut strides = vec![0; to.len() - dims.len()];
        strides.extend(own.strides.iter().zip(dims).map(|(&stride, &dim)| if dim == 1 { 0 } else { stride }));
        View { first: 0, strides }
    }
}

/// Calls `visit` with the positions of every element of `dims` in each operand.
#[inline]
pub(super) fn each<const N: usize>(dims: &[usize], views: [&View; N], mut visit: impl FnMut([usize; N])) {
    let (&last, outer) = dims.split_last().unwrap_or((&1, &[]));
    let step = views.map(|view| view.strides.last().copied().unwrap_or(0));
    let mut index = vec![0; outer.len()];
    let mut at = views.map(|view| view.first as isize);
    loop {
        let mut place = at;
        for _ in 0..last {
            visit(place.map(|place| place as usize));
            for (place, step) in place.iter_mut().zip(step) {
                *place += step;
            }
        }
        // The next index of the outer axes, as an odometer counts.
        let mut axis = outer.len();
        loop {
            let Some(next) = axis.checked_sub(1) else { return };
            axis = next;
            index[axis] += 1;
            at.iter_mut().zip(views).for_each(|(at, view)| *at += view.strides[axis]);
            if index[axis] < outer[axis] {
                break;
            }
            index[axis] = 0;
            at.iter_mut().zip(views).for_each(|(at, view)| *at -= view.strides[axis] * outer[axis] as isize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visited<const N: usize>(dims: &[usize], views: [&View; N]) -> Vec<[usize; N]> {
        let mut all = Vec::new();
        each(dims, views, |at| all.push(at));
        all
    }

    #[test]
    fn elements_are_visited_in_order() {
        assert_eq!(visited(&[], [&View::of(&[])]), [[0]], "a scalar");
        let rows = View::of(&[2, 3]);
        assert_eq!(visited(&[2, 3], [&rows]).concat(), [0, 1, 2, 3, 4, 5]);
        let column = View::broadcast(&[2, 1], &[2, 3]);
        assert_eq!(visited(&[2, 3], [&rows, &column]).map_second(), [0, 0, 0, 1, 1, 1]);
        let row = View::broadcast(&[3], &[2, 3]);
        assert_eq!(visited(&[2, 3], [&rows, &row]).map_second(), [0, 1, 2, 0, 1, 2]);
        let backwards = View { first: 5, strides: vec![-3, -1] };
        assert_eq!(visited(&[2, 3], [&backwards]).concat(), [5, 4, 3, 2, 1, 0]);
    }

    trait Second {
        fn map_second(self) -> Vec<usize>;
    }

    impl Second for Vec<[usize; 2]> {
        fn map_second(self) -> Vec<usize> {
            self.into_iter().map(|[_, second]| second).collect()
        }
    }
}
