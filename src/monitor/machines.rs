//! The machines by their numbers. A machine keeps its number for the whole run, and no other gets it: what still speaks
//! of one that was removed finds nothing, and never another.

use std::collections::BTreeMap;
use std::ops::{Index, IndexMut};

use super::machine::Machine;

/// So many machines an agent has at most once commands add some.
pub const MOST_MACHINES: usize = 64;

/// Machines by number. Only the controller's thread adds and removes any; all others use [`Machines::get`].
#[derive(Default)]
pub struct Machines(BTreeMap<usize, Machine>);

impl Machines {
    /// Numbers them from 0.
    pub fn new(machines: Vec<Machine>) -> Machines {
        Machines(machines.into_iter().enumerate().collect())
    }

    pub fn get(&self, number: usize) -> Option<&Machine> {
        self.0.get(&number)
    }

    pub fn get_mut(&mut self, number: usize) -> Option<&mut Machine> {
        self.0.get_mut(&number)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn numbers(&self) -> Vec<usize> {
        self.0.keys().copied().collect()
    }

    /// In the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &Machine)> {
        self.0.iter().map(|(number, machine)| (*number, machine))
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (usize, &mut Machine)> {
        self.0.iter_mut().map(|(number, machine)| (*number, machine))
    }

    pub fn values(&self) -> impl Iterator<Item = &Machine> {
        self.0.values()
    }

    pub(super) fn insert(&mut self, number: usize, machine: Machine) {
        self.0.insert(number, machine);
    }

    pub(super) fn remove(&mut self, number: usize) -> Option<Machine> {
        self.0.remove(&number)
    }
}

/// For numbers that the controller's thread has just looked up; panics where there is no such machine.
impl Index<usize> for Machines {
    type Output = Machine;

    fn index(&self, number: usize) -> &Machine {
        &self.0[&number]
    }
}

impl IndexMut<usize> for Machines {
    fn index_mut(&mut self, number: usize) -> &mut Machine {
        self.0.get_mut(&number).expect("a machine that was just looked up")
    }
}
