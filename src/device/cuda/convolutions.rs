//! Convolutions by cuDNN, each pass by one deterministic plan that is chosen before anything runs and never by timing,
//! unless a lock says otherwise.

use std::collections::BTreeMap;
use std::rc::Rc;

use cudarc::driver::sys::CUstream;

use crate::device::cuda::convolution_plans::{ALIGNMENT_BYTES, Plan, Planner};
use crate::device::cuda::cudnn::{Attribute, Descriptor, Handle, Kind};
use crate::device::cuda::plan_lock::{EngineChoice, PlanLock};
use crate::device::gpu::{Address, Convolution, ConvolutionCall, Element, GpuError, Pass};

/// Devices as cuDNN describes them, to make plans without them.
pub const H200: &str = include_str!("described/h200.json");
pub const H100: &str = include_str!("described/h100.json");
pub const A100: &str = include_str!("described/a100.json");
pub const RTX_4090: &str = include_str!("described/rtx4090.json");

/// Hands one execution to the stream.
pub type Execution<'a> = dyn Fn() -> Result<(), GpuError> + 'a;

/// How long one execution takes, in µs.
pub type Timing<'a> = dyn FnMut(&Execution<'_>) -> Result<f64, GpuError> + 'a;

/// What plans are made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The current context's device.
    Current,
    /// A device by cuDNN's JSON of it; it need not be there. Plans can be made and read, not executed. cuDNN 9.11 on.
    Described(&'static str),
}

/// A way to compute one pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub choice: EngineChoice,
    pub workspace_bytes: usize,
    /// cuDNN's remarks on the numerics, as the numbers of its `cudnnBackendNumericalNote_t`.
    pub notes: Vec<u32>,
}

/// Room that convolutions may use between their start and their end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workspace {
    pub address: Address,
    pub bytes: usize,
}

/// The convolutions of a device. It belongs to the thread and the context it was made in.
pub struct Convolutions {
    planner: Planner,
    /// One handle for each stream.
    handles: BTreeMap<usize, Rc<Handle>>,
    lock: PlanLock,
    plans: BTreeMap<(Convolution, Pass), Plan>,
}

/// Sizes and pass in words: `convolution 512x32x32x64 -> 64 3x3 s1 p1 bf16 forward`.
pub fn description(shape: &Convolution, pass: Pass) -> String {
    let Convolution { images, height, width, inputs, outputs, kernel, stride, padding, element } = *shape;
    let element = match element {
        Element::F32 => "f32",
        Element::Bf16 => "bf16",
    };
    let pass = match pass {
        Pass::Forward => "forward",
        Pass::InputGradient => "input gradient",
        Pass::WeightGradient => "weight gradient",
    };
    let window = format!("{kernel}x{kernel} s{stride} p{padding}");
    format!("convolution {images}x{height}x{width}x{inputs} -> {outputs} {window} {element} {pass}")
}

/// Whether such a convolution has an output at all and its sizes can be told to the library.
fn is_sound(shape: &Convolution) -> bool {
    let Convolution { images, height, width, inputs, outputs, kernel, stride, padding, element: _ } = *shape;
    let sizes = [images, height, width, inputs, outputs, kernel, stride];
    let most = i32::MAX as usize;
    sizes.iter().all(|size| (1..=most).contains(size))
        && padding <= most
        && height + 2 * padding >= kernel
        && width + 2 * padding >= kernel
}

impl Convolutions {
    /// # Errors
    /// When cuDNN or the device is not there, or the description is not understood.
    pub fn new(target: Target) -> Result<Convolutions, GpuError> {
        let planner = match target {
            Target::Current => Planner::Device(Rc::new(Handle::new()?)),
            Target::Described(json) => Planner::Described(
                Descriptor::new(Kind::CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR)?
                    .text(Attribute::CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, json)?
                    .finalize()?,
            ),
        };
        Ok(Convolutions { planner, handles: BTreeMap::new(), lock: PlanLock::default(), plans: BTreeMap::new() })
    }

    /// From now on the lock's convolutions are computed as it says. Plans made before are forgotten: prepare again, and
    /// record again what was recorded with them.
    pub fn locked(&mut self, lock: &PlanLock) {
        self.lock = lock.clone();
        self.plans.clear();
    }

    /// Chooses the plan of a pass: the lock's, or the first deterministic one in the heuristic's order.
    ///
    /// # Errors
    /// `NoPlan` when there is none or the lock's does not work here.
    pub fn prepare(&mut self, shape: &Convolution, pass: Pass) -> Result<(), GpuError> {
        if self.plans.contains_key(&(*shape, pass)) {
            return Ok(());
        }
        let description = description(shape, pass);
        let plan = match self.lock.choices.get(&description) {
            Some(choice) => self.chosen(shape, pass, choice)?,
            None => self.acceptable(shape, pass, 1)?.pop().ok_or(GpuError::NoPlan(description))?,
        };
        self.plans.insert((*shape, pass), plan);
        Ok(())
    }

    fn acceptable(&self, shape: &Convolution, pass: Pass, limit: usize) -> Result<Vec<Plan>, GpuError> {
        if !is_sound(shape) {
            return Err(GpuError::NoPlan(format!("{}: it has no output", description(shape, pass))));
        }
        let refused = |error| GpuError::NoPlan(format!("{}: {error}", description(shape, pass)));
        self.planner.plans(shape, pass, limit).map_err(refused)
    }

    fn chosen(&self, shape: &Convolution, pass: Pass, choice: &EngineChoice) -> Result<Plan, GpuError> {
        let refused = |reason: String| {
            let description = description(shape, pass);
            GpuError::NoPlan(format!("{description} by the locked engine {}: {reason}", choice.engine))
        };
        if !is_sound(shape) {
            return Err(refused("it has no output".to_owned()));
        }
        match self.planner.chosen(shape, pass, choice) {
            Ok(Some(plan)) => Ok(plan),
            Ok(None) => {
                Err(refused("it does not work with this device and library, or not deterministically".to_owned()))
            }
            Err(error) => Err(refused(error.to_string())),
        }
    }

    /// What the prepared passes need at most.
    pub fn workspace_bytes(&self) -> usize {
        self.plans.values().map(|plan| plan.workspace_bytes).max().unwrap_or(0)
    }

    /// Makes the state that `execute` needs for a stream. It allocates, so it cannot happen while the stream is
    /// captured.
    ///
    /// # Errors
    /// When the device is only described, or the library refuses.
    pub fn bind(&mut self, stream: CUstream) -> Result<(), GpuError> {
        self.handle(stream).map(|_| ())
    }

    fn handle(&mut self, stream: CUstream) -> Result<Rc<Handle>, GpuError> {
        if let Some(handle) = self.handles.get(&(stream as usize)) {
            return Ok(Rc::clone(handle));
        }
        let handle = match &self.planner {
            // The planner's own handle serves the first stream.
            Planner::Device(handle) if self.handles.is_empty() => Rc::clone(handle),
            Planner::Device(_) => Rc::new(Handle::new()?),
            Planner::Described(_) => {
                let reason = "the device is only described".to_owned();
                return Err(GpuError::Call { call: "cudnnCreate", reason });
            }
        };
        handle.set_stream(stream)?;
        self.handles.insert(stream as usize, Rc::clone(&handle));
        Ok(handle)
    }

    /// Hands a prepared pass to a live stream of this device, which may be captured once `bind` or `execute` saw it.
    /// `workspace` has [`Convolutions::workspace_bytes`] that nothing else uses meanwhile.
    ///
    /// # Errors
    /// When the pass was not prepared, a place is none or no multiple of 16, or the library refuses.
    pub fn execute(&mut self, call: &ConvolutionCall, workspace: Address, stream: CUstream) -> Result<(), GpuError> {
        let handle = self.handle(stream)?;
        let plan = self.plans.get(&(call.shape, call.pass)).ok_or_else(|| {
            let reason = format!("{} was not prepared", description(&call.shape, call.pass));
            GpuError::Call { call: "convolution", reason }
        })?;
        run(plan, &handle, call, workspace)
    }

    /// What was chosen so far: sizes and pass in words, and cuDNN's record of the plan.
    pub fn choices(&self) -> Vec<(String, String)> {
        let written = |plan: &Plan| plan.json().unwrap_or_else(|_| format!("engine {}", plan.choice.engine));
        self.plans.iter().map(|((shape, pass), plan)| (description(shape, *pass), written(plan))).collect()
    }

    /// What was chosen so far, to be asked for again.
    pub fn lock(&self) -> PlanLock {
        let choice =
            |((shape, pass), plan): (&(Convolution, Pass), &Plan)| (description(shape, *pass), plan.choice.clone());
        PlanLock { choices: self.plans.iter().map(choice).collect() }
    }

    /// At most `limit` deterministic ways to compute a pass, in the heuristic's order.
    ///
    /// # Errors
    /// `NoPlan` when the library refuses the convolution itself.
    pub fn candidates(&self, shape: &Convolution, pass: Pass, limit: usize) -> Result<Vec<Candidate>, GpuError> {
        let plans = self.acceptable(shape, pass, limit)?;
        let candidate =
            |plan: Plan| Candidate { choice: plan.choice, workspace_bytes: plan.workspace_bytes, notes: plan.notes };
        Ok(plans.into_iter().map(candidate).collect())
    }

    /// The fastest of at most `limit` deterministic ways that fit `workspace`, for a lock. Of equals the heuristic's
    /// first is taken, one that fails is passed over.
    ///
    /// # Errors
    /// `NoPlan` when none of them runs.
    pub fn tune(
        &mut self,
        call: &ConvolutionCall,
        limit: usize,
        workspace: Workspace,
        stream: CUstream,
        time: &mut Timing<'_>,
    ) -> Result<EngineChoice, GpuError> {
        let handle = self.handle(stream)?;
        let mut plans = self.acceptable(&call.shape, call.pass, limit)?;
        plans.retain(|plan| plan.workspace_bytes <= workspace.bytes);
        let mut timed = Vec::new();
        let mut problem = format!("nothing fits {} bytes of workspace", workspace.bytes);
        for plan in &plans {
            match time(&|| run(plan, &handle, call, workspace.address)) {
                Ok(microseconds) => timed.push((microseconds, &plan.choice)),
                Err(error) => problem = error.to_string(),
            }
        }
        let none = || GpuError::NoPlan(format!("{}: {problem}", description(&call.shape, call.pass)));
        fastest(&timed).cloned().ok_or_else(none)
    }
}

fn run(plan: &Plan, handle: &Handle, call: &ConvolutionCall, workspace: Address) -> Result<(), GpuError> {
    let mut places = vec![call.x, call.weight, call.y];
    places.extend((plan.workspace_bytes > 0).then_some(workspace));
    if places.iter().any(|place| *place == Address::NONE || !place.0.is_multiple_of(ALIGNMENT_BYTES as u64)) {
        let reason = format!("{}: a place is none or no multiple of 16", description(&call.shape, call.pass));
        return Err(GpuError::Call { call: "convolution", reason });
    }
    plan.execute(handle, call, workspace)
}

/// The first of the smallest times; one that is no number is none.
fn fastest<'a>(timed: &[(f64, &'a EngineChoice)]) -> Option<&'a EngineChoice> {
    let numbers = timed.iter().filter(|(microseconds, _)| !microseconds.is_nan());
    numbers.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, choice)| *choice)
}

#[cfg(test)]
mod tests;
