#include <thread>

#include "app.hpp"
#include "support.hpp"

using edgefer::app::Mailbox;

TEST_CASE("the newest replaces what nobody took, and is counted") {
  Mailbox<int> box(true);
  for (const int item : {1, 2, 3}) box.put(item);
  CHECK(box.get() == 3);
  CHECK(box.dropped() == 2);
}

TEST_CASE("without drops the giver waits, and everything arrives in order") {
  Mailbox<int> box(false);
  std::thread giver([&] {
    for (int item = 0; item < 1000; ++item) box.put(item);
    box.close();
  });
  int next = 0;
  while (const auto item = box.get()) CHECK(*item == next++);
  giver.join();
  CHECK(next == 1000);
  CHECK(box.dropped() == 0);
}

TEST_CASE("a closed box gives what is inside, then nothing, and takes nothing") {
  Mailbox<int> box(true);
  box.put(7);
  box.close();
  box.put(8);
  CHECK(box.get() == 7);
  CHECK_FALSE(box.get().has_value());
}

TEST_CASE("closing frees a giver that waits") {
  Mailbox<int> box(false);
  box.put(1);
  std::thread giver([&] { box.put(2); });
  box.close();
  giver.join();
  CHECK(box.get() == 1);
  CHECK_FALSE(box.get().has_value());
}
