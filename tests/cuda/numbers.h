// Half types to numbers and back, in plain C++.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "core/types.h"

namespace host_numbers {

using shared_dense::BFloat16;
using shared_dense::Half;

inline float widen(BFloat16 v) {
  const std::uint32_t bits = std::uint32_t{v.bits} << 16;
  float wide;
  std::memcpy(&wide, &bits, sizeof wide);
  return wide;
}
inline void narrow(float v, BFloat16* to) {
  std::uint32_t bits;
  std::memcpy(&bits, &v, sizeof bits);
  to->bits = std::isnan(v) ? 0x7fff : (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
}

inline float widen_slowly(Half v) {
  const int exponent = v.bits >> 10 & 31, fraction = v.bits & 1023;
  float size = std::ldexp(static_cast<float>(fraction), -24);
  if (exponent > 0) size = std::ldexp(static_cast<float>(fraction + 1024), exponent - 25);
  if (exponent == 31) size = fraction == 0 ? INFINITY : NAN;
  return std::copysign(size, (v.bits & 0x8000) != 0 ? -1.0f : 1.0f);
}
inline float widen(Half v) {
  static const std::vector<float> all = [] {
    std::vector<float> values;
    for (int bits = 0; bits < 1 << 16; ++bits) {
      values.push_back(widen_slowly(Half{static_cast<std::uint16_t>(bits)}));
    }
    return values;
  }();
  return all[v.bits];
}
inline void narrow(float v, Half* to) {
  const std::uint16_t sign = std::signbit(v) ? 0x8000 : 0;
  const float size = std::fabs(v);
  if (!(size < 65520)) {
    to->bits = std::isnan(v) ? 0x7fff : sign | 0x7c00;
    return;
  }
  if (size == 0) {
    to->bits = sign;
    return;
  }
  int exponent = 0;
  std::frexp(size, &exponent);
  const int unit = std::max(exponent - 11, -24);  // of the last place
  const auto units = static_cast<std::uint32_t>(std::nearbyint(std::ldexp(size, -unit)));
  // The leading one of a normal number, or a carry, arrives in the exponent.
  to->bits =
      sign | static_cast<std::uint16_t>(units + (static_cast<std::uint32_t>(unit + 24) << 10));
}

inline float widen(float v) { return v; }
inline double widen(double v) { return v; }
inline void narrow(float v, float* to) { *to = v; }
inline void narrow(double v, double* to) { *to = v; }

}  // namespace host_numbers
