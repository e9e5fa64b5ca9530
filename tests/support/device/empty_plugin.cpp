// A shared object that offers nothing of Plateau's.
extern "C" int PlateauStandsForAnotherLibrary() { return 1; }
