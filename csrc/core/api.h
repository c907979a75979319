// What the core's shared library shows; the rest of it is hidden.
#pragma once

#define SHARED_DENSE_API __attribute__((visibility("default")))
