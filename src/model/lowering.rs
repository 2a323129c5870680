//! A Plan while it is being written: names, offsets and value numbers are given out here.

use crate::model::plan::{Buffer, BufferId, Op, Parameter, ParameterId, ParameterKind, Plan, Shape, ValueId};

/// The Plan so far and the name that new parameters hang under.
#[derive(Debug, Clone, Default)]
pub struct Lowering {
    values: Vec<Shape>,
    ops: Vec<Op>,
    parameters: Vec<Parameter>,
    buffers: Vec<Buffer>,
    scope: Vec<String>,
}

impl Lowering {
    /// A new value.
    pub fn value(&mut self, shape: Shape) -> ValueId {
        self.values.push(shape);
        ValueId(self.values.len() - 1)
    }

    pub fn shape(&self, value: ValueId) -> Shape {
        self.values[value.0]
    }

    /// Appends an operation and gives its output.
    pub fn push(&mut self, op: Op) -> ValueId {
        let output = op.output();
        self.ops.push(op);
        output
    }

    /// Puts `name` in front of the names of all parameters until [`Lowering::leave`].
    pub fn enter(&mut self, name: String) {
        self.scope.push(name);
    }

    pub fn leave(&mut self) {
        self.scope.pop();
    }

    pub fn parameter(&mut self, name: &str, shape: &[usize], kind: ParameterKind) -> ParameterId {
        let offset = self.parameters.last().map_or(0, |last| last.range().end);
        self.parameters.push(Parameter { name: self.full_name(name), shape: shape.to_vec(), offset, kind });
        ParameterId(self.parameters.len() - 1)
    }

    pub fn buffer(&mut self, name: &str, len: usize, initial: f32) -> BufferId {
        let offset = self.buffers.last().map_or(0, |last| last.offset + last.len);
        self.buffers.push(Buffer { name: self.full_name(name), len, offset, initial });
        BufferId(self.buffers.len() - 1)
    }

    pub fn finish(self, input: ValueId, features: ValueId, projection: ValueId) -> Plan {
        let Lowering { values, ops, parameters, buffers, scope: _ } = self;
        Plan { values, ops, parameters, buffers, input, features, projection }
    }

    fn full_name(&self, name: &str) -> String {
        format!("{}.{name}", self.scope.join("."))
    }
}
