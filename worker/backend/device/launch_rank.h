// This process's number as its launcher told it, before MPI is up.
#pragma once

#include <initializer_list>

namespace plateau {

// Of the first of these environment variables that holds a number from 0 on; 0 where none does.
int RankFrom(std::initializer_list<const char*> variables);

}  // namespace plateau
