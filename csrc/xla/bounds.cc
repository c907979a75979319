#include "xla/bounds.h"

#include "xla/hlo/builder/lib/constants.h"
#include "xla/shape_util.h"

namespace shared_dense {

using xla::XlaOp;

absl::StatusOr<Sizes> take_sizes(XlaOp* tensor) {
  xla::XlaBuilder* const builder = tensor->builder();
  const absl::StatusOr<xla::Shape> shape = builder->GetShape(*tensor);
  if (!shape.ok()) return shape.status();
  Sizes sizes(shape->dimensions().size());
  if (shape->is_static()) return sizes;
  for (std::size_t axis = 0; axis < sizes.size(); ++axis) {
    if (shape->is_dynamic_dimension(axis)) sizes[axis] = xla::GetDimensionSize(*tensor, axis);
  }
  XlaOp inside;
  const xla::Shape places = xla::ShapeUtil::MakeShape(xla::S32, shape->dimensions());
  for (std::size_t axis = 0; axis < sizes.size(); ++axis) {
    if (!sizes[axis].valid()) continue;
    *tensor = xla::RemoveDynamicDimension(*tensor, axis);
    const XlaOp before = xla::Lt(xla::Iota(builder, places, axis), sizes[axis]);
    inside = inside.valid() ? xla::And(inside, before) : before;
  }
  *tensor = xla::Select(inside, *tensor, xla::ZerosLike(*tensor));
  return sizes;
}

XlaOp with_sizes(XlaOp tensor, const Sizes& sizes) {
  for (std::size_t axis = 0; axis < sizes.size(); ++axis) {
    if (sizes[axis].valid()) tensor = xla::SetDimensionSize(tensor, sizes[axis], axis);
  }
  return tensor;
}

}  // namespace shared_dense
