//! Typed models behind one object: a backbone and a head that the compiler joined by their feature width.

use dfdx::nn::{BuildOnDevice, Module, ModuleMut};
use dfdx::shapes::Const;
use dfdx::tensor::{Cpu, CpuError, Gradients, NoneTape, Tensor, TensorFromVec, Trace};
use dfdx::tensor_ops::RealizeTo;

use crate::model::fuse::fuse;
use crate::model::lower::{Extent, Lower};
use crate::model::lowering::Lowering;
use crate::model::plan::{ParameterKind, Plan, ValueId};
use crate::model::tape::{Recorded, Recording};
use crate::model::tensors::{FlatTensor, Role, Tensors, tensors};

/// A model on dfdx's tape. Images are n × side × side × 3, flat buffers are laid out as its Plan says.
pub trait TypedModel: Send + Sync {
    fn plan(&self) -> &Plan;

    /// Projections in training mode, n × width, recorded; moves the running statistics. All images of one call share
    /// their batch statistics.
    fn forward(&mut self, images: &[f32]) -> Result<Recorded, CpuError>;

    /// Features in evaluation mode, n × width.
    fn features(&self, images: &[f32]) -> Result<Vec<f32>, CpuError>;

    /// The gradients of the parameters.
    ///
    /// # Panics
    /// When they are not those of a loss of this model's projections.
    fn gradients(&self, gradients: &Gradients<f32, Cpu>) -> Vec<f32>;

    /// # Panics
    /// When a length differs from the Plan's.
    fn load(&mut self, parameters: &[f32], buffers: &[f32]);

    /// Parameters and buffers.
    fn save(&self) -> (Vec<f32>, Vec<f32>);
}

/// Features of n images, F each.
pub(super) type Features<const F: usize, T> = Tensor<(usize, Const<F>), f32, Cpu, T>;

/// n images, channels first.
type Images<T> = Tensor<(usize, Const<3>, usize, usize), f32, Cpu, T>;

/// A backbone that gives F features, whatever side it takes.
trait Backbone<const F: usize>: Tensors + Send + Sync {
    fn record(&mut self, images: &[f32]) -> Result<Features<F, Recording>, CpuError>;
    fn evaluate(&self, images: &[f32]) -> Result<Vec<f32>, CpuError>;
}

/// A head on F features.
pub(super) trait Head<const F: usize>: Tensors + Send + Sync {
    fn record(&mut self, features: Features<F, Recording>) -> Result<Recorded, CpuError>;
}

/// A built backbone and the side it is built for.
struct OnSide<M> {
    module: M,
    side: usize,
}

impl<M, const F: usize> Backbone<F> for OnSide<M>
where
    M: Tensors
        + Module<Images<NoneTape>, Output = Features<F, NoneTape>, Error = CpuError>
        + ModuleMut<Images<Recording>, Output = Features<F, Recording>, Error = CpuError>
        + Send
        + Sync,
{
    fn record(&mut self, images: &[f32]) -> Result<Features<F, Recording>, CpuError> {
        self.module.try_forward_mut(channels_first(images, self.side)?.leaky_traced())
    }

    fn evaluate(&self, images: &[f32]) -> Result<Vec<f32>, CpuError> {
        Ok(self.module.try_forward(channels_first(images, self.side)?)?.as_vec())
    }
}

tensors!([M: Tensors] OnSide<M> [module]);

/// n × side × side × 3 becomes n × 3 × side × side.
fn channels_first(images: &[f32], side: usize) -> Result<Images<NoneTape>, CpuError> {
    let area = side * side;
    let mut values = Vec::with_capacity(images.len());
    for image in images.chunks(3 * area) {
        for channel in 0..3 {
            values.extend(image.iter().skip(channel).step_by(3));
        }
    }
    Cpu::default().try_tensor_from_vec(values, (images.len() / (3 * area), Const, side, side))
}

/// A built head and the width of its projection.
struct ToWidth<M, const O: usize>(M);

impl<M, const F: usize, const O: usize> Head<F> for ToWidth<M, O>
where
    M: Tensors + ModuleMut<Features<F, Recording>, Output = Features<O, Recording>, Error = CpuError> + Send + Sync,
{
    fn record(&mut self, features: Features<F, Recording>) -> Result<Recorded, CpuError> {
        Ok(any_width(self.0.try_forward_mut(features)?))
    }
}

tensors!([M: Tensors, const O: usize] ToWidth<M, O> [0]);

/// Forgets the width at compile time, where models of all widths meet.
fn any_width<const WIDTH: usize>(features: Features<WIDTH, Recording>) -> Recorded {
    features.try_realize().unwrap_or_else(|_| unreachable!("every width is a `usize`"))
}

/// A backbone the compiler has checked for one side, not built yet.
pub struct CompiledBackbone<const F: usize> {
    lower: fn(&mut Lowering) -> (ValueId, ValueId),
    build: fn() -> Box<dyn Backbone<F>>,
}

/// From the features to the head's output.
type LowerHead = dyn Fn(&mut Lowering, ValueId) -> ValueId;

type BuildHead<const F: usize> = dyn Fn() -> Box<dyn Head<F>>;

/// A head the compiler has checked for F features, not built yet.
pub struct CompiledHead<const F: usize> {
    lower: Box<LowerHead>,
    build: Box<BuildHead<F>>,
}

impl<const F: usize> CompiledHead<F> {
    pub(super) fn new(
        lower: impl Fn(&mut Lowering, ValueId) -> ValueId + 'static,
        build: impl Fn() -> Box<dyn Head<F>> + 'static,
    ) -> CompiledHead<F> {
        CompiledHead { lower: Box::new(lower), build: Box::new(build) }
    }
}

/// A view of side × side × 3, known to the compiler.
type View<const SIDE: usize> = (Const<3>, Const<SIDE>, Const<SIDE>);

/// Backbone `B` for views of `SIDE` pixels.
#[allow(private_bounds)]
pub fn backbone<B, const SIDE: usize, const F: usize>() -> CompiledBackbone<F>
where
    B: BuildOnDevice<Cpu, f32> + Lower<View<SIDE>, Out = (Const<F>,)>,
    B::Built: 'static,
    OnSide<B::Built>: Backbone<F>,
{
    CompiledBackbone {
        lower: |lowering| {
            let input = lowering.value(View::<SIDE>::of_image());
            (input, B::lower(lowering, input))
        },
        build: || Box::new(OnSide { module: B::build_on_device(&Cpu::default()), side: SIDE }),
    }
}

/// Head `H` from F features to O.
#[allow(private_bounds)]
pub fn head<H, const F: usize, const O: usize>() -> CompiledHead<F>
where
    H: BuildOnDevice<Cpu, f32> + Lower<(Const<F>,), Out = (Const<O>,)> + 'static,
    H::Built: 'static,
    ToWidth<H::Built, O>: Head<F>,
{
    CompiledHead::new(H::lower, || Box::new(ToWidth(H::build_on_device(&Cpu::default()))))
}

/// The fused Plan of a backbone and, unless the loss sees the features themselves, a head.
pub fn plan<const F: usize>(backbone: &CompiledBackbone<F>, head: Option<&CompiledHead<F>>) -> Plan {
    let mut lowering = Lowering::default();
    let (input, features) = (backbone.lower)(&mut lowering);
    let projection = head.map_or(features, |head| (head.lower)(&mut lowering, features));
    fuse(lowering.finish(input, features, projection))
}

/// Builds both.
pub fn build<const F: usize>(backbone: &CompiledBackbone<F>, head: Option<&CompiledHead<F>>) -> Box<dyn TypedModel> {
    build_as(plan(backbone, head), backbone, head)
}

/// Builds both; `plan` is theirs, whatever it holds.
pub fn build_as<const F: usize>(
    plan: Plan,
    backbone: &CompiledBackbone<F>,
    head: Option<&CompiledHead<F>>,
) -> Box<dyn TypedModel> {
    Box::new(Joined { plan, backbone: (backbone.build)(), head: head.map(|head| (head.build)()) })
}

struct Joined<const F: usize> {
    plan: Plan,
    backbone: Box<dyn Backbone<F>>,
    head: Option<Box<dyn Head<F>>>,
}

impl<const F: usize> TypedModel for Joined<F> {
    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn forward(&mut self, images: &[f32]) -> Result<Recorded, CpuError> {
        let features = self.backbone.record(images)?;
        match &mut self.head {
            Some(head) => head.record(features),
            None => Ok(any_width(features)),
        }
    }

    fn features(&self, images: &[f32]) -> Result<Vec<f32>, CpuError> {
        self.backbone.evaluate(images)
    }

    fn gradients(&self, gradients: &Gradients<f32, Cpu>) -> Vec<f32> {
        let mut flat = Vec::with_capacity(self.plan.n_parameters());
        self.visit(&mut |role, tensor| match role {
            Role::Parameter => flat.extend(tensor.gradient(gradients)),
            Role::Buffer => {}
        });
        for held in self.plan.parameters.iter().filter(|parameter| parameter.kind == ParameterKind::HeldNormShift) {
            flat[held.range()].fill(0.0);
        }
        flat
    }

    fn load(&mut self, mut parameters: &[f32], mut buffers: &[f32]) {
        assert_eq!(parameters.len(), self.plan.n_parameters(), "parameters of another model");
        assert_eq!(buffers.len(), self.plan.n_buffers(), "running statistics of another model");
        self.visit_mut(&mut |role, tensor| match role {
            Role::Parameter => tensor.take(&mut parameters),
            Role::Buffer => tensor.take(&mut buffers),
        });
    }

    fn save(&self) -> (Vec<f32>, Vec<f32>) {
        let mut parameters = Vec::with_capacity(self.plan.n_parameters());
        let mut buffers = Vec::with_capacity(self.plan.n_buffers());
        self.visit(&mut |role, tensor| match role {
            Role::Parameter => parameters.extend(tensor.values()),
            Role::Buffer => buffers.extend(tensor.values()),
        });
        (parameters, buffers)
    }
}

impl<const F: usize> Tensors for Joined<F> {
    fn visit(&self, each: &mut dyn FnMut(Role, &dyn FlatTensor)) {
        self.backbone.visit(each);
        if let Some(head) = &self.head {
            head.visit(each);
        }
    }

    fn visit_mut(&mut self, each: &mut dyn FnMut(Role, &mut dyn FlatTensor)) {
        self.backbone.visit_mut(each);
        if let Some(head) = &mut self.head {
            head.visit_mut(each);
        }
    }
}
