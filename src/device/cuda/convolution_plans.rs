//! How cuDNN can compute one pass of a convolution: the operation described, the heuristic's engines filtered to the
//! deterministic ones that keep the precision asked for, and a plan made of one of them.

use std::collections::BTreeMap;
use std::rc::Rc;

use cudarc::cudnn::sys::cudnnBackendHeurMode_t as HeuristicMode;
use cudarc::cudnn::sys::cudnnBackendNumericalNote_t as Note;
use cudarc::cudnn::sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION;
use cudarc::cudnn::sys::cudnnDataType_t as DataType;

use crate::device::cuda::cudnn::{Attribute, Code, Descriptor, Handle, Kind};
use crate::device::cuda::plan_lock::EngineChoice;
use crate::device::gpu::{Address, Convolution, ConvolutionCall, Element, GpuError, Pass};

/// Unique numbers of the three tensors.
const X: i64 = 1;
const WEIGHT: i64 = 2;
const Y: i64 = 3;

/// More kinds of knobs than the library has.
const KNOBS_MAX: usize = 128;

/// Every place must be a multiple of this.
pub const ALIGNMENT_BYTES: usize = 16;

/// What plans are made for.
pub enum Planner {
    /// The device a handle was made on.
    Device(Rc<Handle>),
    /// A device that need not be there, by its properties.
    Described(Rc<Descriptor>),
}

/// A way to compute one pass that was accepted by the library.
pub struct Plan {
    descriptor: Rc<Descriptor>,
    pub choice: EngineChoice,
    pub workspace_bytes: usize,
    /// `cudnnBackendNumericalNote_t` as numbers: 0 tensor core, 3 FFT, 5 to 8 Winograd.
    pub notes: Vec<u32>,
}

impl Plan {
    /// The library's own record of the plan.
    ///
    /// # Errors
    /// When the library refuses.
    pub fn json(&self) -> Result<String, GpuError> {
        self.descriptor.read_text(Attribute::CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION)
    }

    /// Hands the plan to the handle's stream.
    ///
    /// # Errors
    /// When the library refuses.
    pub fn execute(&self, handle: &Handle, call: &ConvolutionCall, workspace: Address) -> Result<(), GpuError> {
        let pack = variant_pack(call, workspace)?;
        handle.execute(&self.descriptor, &pack)
    }
}

/// The places of one call.
pub fn variant_pack(call: &ConvolutionCall, workspace: Address) -> Result<Rc<Descriptor>, GpuError> {
    Descriptor::new(Kind::CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR)?
        .numbers(Attribute::CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, &[X, WEIGHT, Y])?
        .places(Attribute::CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, &[call.x, call.weight, call.y])?
        .places(Attribute::CUDNN_ATTR_VARIANT_PACK_WORKSPACE, &[workspace])?
        .finalize()
}

/// A tensor that lies as n × h × w × c; the library names its sizes in the order n, c, h, w.
fn tensor(id: i64, [n, h, w, c]: [usize; 4], element: Element) -> Result<Rc<Descriptor>, GpuError> {
    let [n, h, w, c] = [n, h, w, c].map(|size| size as i64);
    let data_type = match element {
        Element::F32 => DataType::CUDNN_DATA_FLOAT,
        Element::Bf16 => DataType::CUDNN_DATA_BFLOAT16,
    };
    Descriptor::new(Kind::CUDNN_BACKEND_TENSOR_DESCRIPTOR)?
        .code(Attribute::CUDNN_ATTR_TENSOR_DATA_TYPE, Code::DataType(data_type))?
        .numbers(Attribute::CUDNN_ATTR_TENSOR_DIMENSIONS, &[n, c, h, w])?
        .numbers(Attribute::CUDNN_ATTR_TENSOR_STRIDES, &[h * w * c, 1, w * c, c])?
        .numbers(Attribute::CUDNN_ATTR_TENSOR_UNIQUE_ID, &[id])?
        .numbers(Attribute::CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, &[ALIGNMENT_BYTES as i64])?
        .finalize()
}

fn window(shape: &Convolution) -> Result<Rc<Descriptor>, GpuError> {
    let (stride, padding) = (shape.stride as i64, shape.padding as i64);
    Descriptor::new(Kind::CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR)?
        .code(Attribute::CUDNN_ATTR_CONVOLUTION_COMP_TYPE, Code::DataType(DataType::CUDNN_DATA_FLOAT))?
        .code(Attribute::CUDNN_ATTR_CONVOLUTION_CONV_MODE, Code::ConvolutionMode(CUDNN_CROSS_CORRELATION))?
        .numbers(Attribute::CUDNN_ATTR_CONVOLUTION_DILATIONS, &[1, 1])?
        .numbers(Attribute::CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, &[stride, stride])?
        .numbers(Attribute::CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, &[padding, padding])?
        .numbers(Attribute::CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, &[padding, padding])?
        .numbers(Attribute::CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, &[2])?
        .finalize()
}

/// What the library calls the parts of one pass.
struct Names {
    operation: Kind,
    window: Attribute,
    x: Attribute,
    weight: Attribute,
    y: Attribute,
    alpha: Attribute,
    beta: Attribute,
}

fn names(pass: Pass) -> Names {
    match pass {
        Pass::Forward => Names {
            operation: Kind::CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
            window: Attribute::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
            x: Attribute::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
            weight: Attribute::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
            y: Attribute::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
            alpha: Attribute::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
            beta: Attribute::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA,
        },
        Pass::InputGradient => Names {
            operation: Kind::CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
            window: Attribute::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
            x: Attribute::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
            weight: Attribute::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
            y: Attribute::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
            alpha: Attribute::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
            beta: Attribute::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA,
        },
        Pass::WeightGradient => Names {
            operation: Kind::CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
            window: Attribute::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
            x: Attribute::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
            weight: Attribute::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
            y: Attribute::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
            alpha: Attribute::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
            beta: Attribute::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA,
        },
    }
}

fn operation(shape: &Convolution, pass: Pass) -> Result<Rc<Descriptor>, GpuError> {
    let Convolution { images, height, width, inputs, outputs, kernel, element, .. } = *shape;
    let names = names(pass);
    Descriptor::new(names.operation)?
        .descriptors(names.window, &[&window(shape)?])?
        .descriptors(names.x, &[&tensor(X, [images, height, width, inputs], element)?])?
        .descriptors(names.weight, &[&tensor(WEIGHT, [outputs, kernel, kernel, inputs], element)?])?
        .descriptors(names.y, &[&tensor(Y, [images, shape.out_height(), shape.out_width(), outputs], element)?])?
        .float(names.alpha, 1.0)?
        .float(names.beta, 0.0)?
        .finalize()
}

/// Engines whose sums depend on the order of blocks, or are kept in less than f32, never compute anything; f32 numbers
/// are never rounded on the way in.
fn acceptable(notes: &[u32], element: Element) -> bool {
    let refused: &[Note] = match element {
        Element::Bf16 => {
            &[Note::CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC, Note::CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION]
        }
        Element::F32 => &[
            Note::CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC,
            Note::CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION,
            Note::CUDNN_NUMERICAL_NOTE_TENSOR_CORE,
            Note::CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS,
        ],
    };
    !refused.iter().any(|note| notes.contains(&(*note as u32)))
}

fn first<T: Clone>(values: &[T]) -> Result<T, GpuError> {
    let nothing = || GpuError::Call { call: "cudnnBackendGetAttribute", reason: "the library told nothing".to_owned() };
    values.first().cloned().ok_or_else(nothing)
}

impl Planner {
    fn graph(&self, shape: &Convolution, pass: Pass) -> Result<Rc<Descriptor>, GpuError> {
        let graph = Descriptor::new(Kind::CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR)?
            .descriptors(Attribute::CUDNN_ATTR_OPERATIONGRAPH_OPS, &[&operation(shape, pass)?])?;
        match self {
            Planner::Device(handle) => graph.handle(Attribute::CUDNN_ATTR_OPERATIONGRAPH_HANDLE, handle)?.finalize(),
            Planner::Described(_) => graph.finalize(),
        }
    }

    /// Tells a descriptor which device it is for, where that is not told by the graph.
    fn described(&self, descriptor: Descriptor, attribute: Attribute) -> Result<Descriptor, GpuError> {
        match self {
            Planner::Device(_) => Ok(descriptor),
            Planner::Described(device) => descriptor.descriptors(attribute, &[device]),
        }
    }

    /// Engine configurations, the one that is thought fastest first; none when the heuristic has nothing to say.
    fn configurations(&self, graph: &Rc<Descriptor>, mode: HeuristicMode) -> Result<Vec<Rc<Descriptor>>, GpuError> {
        let heuristic = Descriptor::new(Kind::CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR)?
            .descriptors(Attribute::CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, &[graph])?
            .code(Attribute::CUDNN_ATTR_ENGINEHEUR_MODE, Code::HeuristicMode(mode))?;
        match self.described(heuristic, Attribute::CUDNN_ATTR_ENGINEHEUR_DEVICEPROP)?.finalize() {
            Ok(heuristic) => heuristic
                .read_descriptors(Attribute::CUDNN_ATTR_ENGINEHEUR_RESULTS, Kind::CUDNN_BACKEND_ENGINECFG_DESCRIPTOR),
            Err(_) => Ok(Vec::new()),
        }
    }

    /// A plan of one configuration; none when its engine is not acceptable or does not work here after all.
    fn plan(&self, configuration: &Rc<Descriptor>, element: Element) -> Result<Option<Plan>, GpuError> {
        let engines = configuration
            .read_descriptors(Attribute::CUDNN_ATTR_ENGINECFG_ENGINE, Kind::CUDNN_BACKEND_ENGINE_DESCRIPTOR)?;
        let engine = first(&engines)?;
        let notes = engine.read_notes()?;
        if !acceptable(&notes, element) {
            return Ok(None);
        }
        let plan = Descriptor::new(Kind::CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR)?
            .descriptors(Attribute::CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, &[configuration])?;
        let plan = match self {
            Planner::Device(handle) => plan.handle(Attribute::CUDNN_ATTR_EXECUTION_PLAN_HANDLE, handle)?,
            Planner::Described(device) => {
                plan.descriptors(Attribute::CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, &[device])?
            }
        };
        let Ok(descriptor) = plan.finalize() else { return Ok(None) };
        let workspace = first(&descriptor.read_numbers(Attribute::CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE)?)?;
        let choice = EngineChoice {
            engine: first(&engine.read_numbers(Attribute::CUDNN_ATTR_ENGINE_GLOBAL_INDEX)?)?,
            knobs: knobs(configuration)?,
        };
        Ok(Some(Plan { descriptor, choice, workspace_bytes: usize::try_from(workspace).unwrap_or(0), notes }))
    }

    /// At most `limit` different plans: what the heuristic thinks fastest first, what always works behind.
    ///
    /// # Errors
    /// When the library refuses the operation itself.
    pub fn plans(&self, shape: &Convolution, pass: Pass, limit: usize) -> Result<Vec<Plan>, GpuError> {
        let graph = self.graph(shape, pass)?;
        let mut plans: Vec<Plan> = Vec::new();
        for mode in [HeuristicMode::CUDNN_HEUR_MODE_A, HeuristicMode::CUDNN_HEUR_MODE_FALLBACK] {
            if plans.len() >= limit {
                break;
            }
            for configuration in self.configurations(&graph, mode)? {
                if plans.len() >= limit {
                    break;
                }
                if let Some(plan) = self.plan(&configuration, shape.element)?
                    && plans.iter().all(|other| other.choice != plan.choice)
                {
                    plans.push(plan);
                }
            }
        }
        Ok(plans)
    }

    /// The plan of a choice that was made before; none when it is not acceptable or does not work here.
    ///
    /// # Errors
    /// When the library refuses the operation, or the engine or a knob is unknown to it.
    pub fn chosen(&self, shape: &Convolution, pass: Pass, choice: &EngineChoice) -> Result<Option<Plan>, GpuError> {
        let engine = Descriptor::new(Kind::CUDNN_BACKEND_ENGINE_DESCRIPTOR)?
            .descriptors(Attribute::CUDNN_ATTR_ENGINE_OPERATION_GRAPH, &[&self.graph(shape, pass)?])?
            .numbers(Attribute::CUDNN_ATTR_ENGINE_GLOBAL_INDEX, &[choice.engine])?;
        let engine = self.described(engine, Attribute::CUDNN_ATTR_ENGINE_DEVICEPROP)?.finalize()?;
        let knobs = choice.knobs.iter().map(|(knob, value)| {
            Descriptor::new(Kind::CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR)?
                .code(Attribute::CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, Code::Knob(*knob))?
                .numbers(Attribute::CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, &[*value])?
                .finalize()
        });
        let knobs = knobs.collect::<Result<Vec<_>, _>>()?;
        let mut configuration = Descriptor::new(Kind::CUDNN_BACKEND_ENGINECFG_DESCRIPTOR)?
            .descriptors(Attribute::CUDNN_ATTR_ENGINECFG_ENGINE, &[&engine])?;
        if !knobs.is_empty() {
            let knobs: Vec<&Rc<Descriptor>> = knobs.iter().collect();
            configuration = configuration.descriptors(Attribute::CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, &knobs)?;
        }
        self.plan(&configuration.finalize()?, shape.element)
    }
}

fn knobs(configuration: &Rc<Descriptor>) -> Result<BTreeMap<u32, i64>, GpuError> {
    let choices = configuration.read_at_most(
        Attribute::CUDNN_ATTR_ENGINECFG_KNOB_CHOICES,
        Kind::CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR,
        KNOBS_MAX,
    )?;
    let read = choices.iter().map(|choice| {
        let value = choice.read_numbers(Attribute::CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE)?;
        Ok((first(&choice.read_knob()?)?, first(&value)?))
    });
    read.collect()
}
